"""The site: the executed notebooks with their images, results, explanations and the library's reference, as HTML.

    python scripts/build_site.py [--notebooks runs/notebooks] [--out build/site] [--profile tiny]

A notebook is shown as it was executed last by `make demo` or a sweep, with its receipt's parameters; of several
executed copies the one with the largest profile is taken. Notebooks that were never executed run with `--profile`,
or are shown without results (`--as-is`). Pages need no network, also for search and equations: open
`build/site/html/index.html`. Links between pages are checked, and a broken one is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import raflib
from raflib.config import PROFILES
from raflib.errors import RafError
from raflib.lab.driver import run_stages
from raflib.lab.parameters import NOTEBOOKS
from raflib.lab.steps import Step
from raflib.runs import project_root, runs_root
from raflib.system import relative

PAGES = {
    "Notebooks": ["notebooks/README", *(f"notebooks/{name}" for name in NOTEBOOKS)],
    "Results": ["notebooks/RESULTS", "notebooks/VERDICT", "notebooks/METRICS", "figures/README"],
    "Explanations": ["notebooks/GLOSSARY", "notebooks/PAPER_MAP", "raflib/README", "data/README", "benchmarks/README"],
}
"""Pages in the order of the menu, beside the front page (README.md) and the reference; those that exist are shown."""
FOLDERS = ("raflib", "scripts", "benchmarks", "figures", "notebooks", "data", "tests")
COPIED = ("LICENSE", "CITATION.cff", "Makefile", *FOLDERS)
"""Files and folders that pages may link to."""
LARGEST = 2_000_000
"""Larger files are not copied, in bytes."""
METHOD = "raf"
"""Of notebooks that run for several methods, the copy that is shown."""
NOT_RUN = {"00_start", "08_your_video"}
"""Notebooks shown without results: a list of the files of one machine, and videos that do not ship."""
PROGRESS = re.compile(r"\d+%\|")


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", type=Path, default=runs_root() / "notebooks", help="folder of executed copies")
    parser.add_argument("--out", type=Path, default=project_root() / "build" / "site")
    parser.add_argument("--profile", default="tiny", choices=PROFILES, help="of notebooks that were never executed")
    parser.add_argument("--as-is", action="store_true", help="do not run anything")
    parser.add_argument("--brief", action="store_true", help="leave out the pages of source code")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        shown = executed(options.notebooks)
        if not options.as_is:
            run_missing(sorted(set(NOTEBOOKS) - set(shown) - NOT_RUN), options)
            shown = executed(options.notebooks)
        source, html = options.out / "source", options.out / "html"
        write_sources(project_root(), source, shown)
        build(source, html, options.brief)
        broken = broken_links(html)
    except RafError as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    for line in broken:
        print(f"site: {line}", file=sys.stderr)
    print(f"{len(list(html.rglob('*.html')))} pages: {relative(html / 'index.html')}")
    return 1 if broken else 0


def executed(folder: Path) -> dict[str, Path]:
    """The executed copy to show of each notebook; the largest profile first, then the method `METHOD`, then by name."""
    found: dict[str, Path] = {}
    order = list(PROFILES)
    for name in NOTEBOOKS:
        ranked = []
        for copy in sorted(folder.glob(f"{name}*.ipynb")):
            receipt = copy.with_suffix(".json")
            if receipt.is_file():
                parts = copy.stem.split("_")
                profile = next((part for part in reversed(parts) if part in order), order[0])
                ranked.append((-order.index(profile), METHOD not in parts, copy.name, copy))
        if ranked:
            found[name] = min(ranked)[-1]
    return found


def run_missing(names: Iterable[str], options: argparse.Namespace) -> None:
    """Execute notebooks in order with the profile of the options; those that compare avatars need them trained."""
    given = {"profile": options.profile, "subject": "422"}
    stages: list[list[list[Step]]] = []
    for name in names:
        known = {field.name for field in fields(NOTEBOOKS[name])}
        base = {parameter: value for parameter, value in given.items() if parameter in known}
        methods = ("vanilla", "noise", METHOD) if name in ("04_train", "05_evaluate") else ("",)
        steps = [Step(name, base | ({"method": method} if method else {}), method) for method in methods]
        stages.append([[step] for step in steps])
    if stages:
        run_stages(stages, project_root(), options.notebooks, options.cores)


def write_sources(root: Path, source: Path, shown: dict[str, Path]) -> None:
    """The pages' texts in the project's own layout, so that relative links hold."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in COPIED:
        for path in [root / name] if (root / name).is_file() else sorted((root / name).rglob("*")):
            hidden = {"__pycache__", "cache", "weights", ".ipynb_checkpoints"} & set(path.relative_to(root).parts)
            if path.is_file() and not hidden and path.stat().st_size <= LARGEST and not _is_page(path):
                target = source / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    shutil.copytree(Path(__file__).parent / "site", source, dirs_exist_ok=True)
    texts = {title: [path for page in pages if (path := _text_of(root, page))] for title, pages in PAGES.items()}
    for path in (path for paths in texts.values() for path in paths):
        target = source / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            notebook = json.loads((shown.get(path.stem) or path).read_text(encoding="utf-8"))
            target.write_text(json.dumps(cleaned(notebook)), encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
            target.write_text(text.replace("](../README.md", "](../index.md"), encoding="utf-8")
    rooms = write_reference(source / "reference")
    front = (root / "README.md").read_text(encoding="utf-8")
    listed = {
        title: [path.relative_to(root).with_suffix("").as_posix() for path in paths] for title, paths in texts.items()
    }
    menus = [_menu(title, pages) for title, pages in [*listed.items(), ("Reference", rooms)]]
    (source / "index.md").write_text("\n\n".join([front, *menus]), encoding="utf-8")


def cleaned(notebook: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook without progress bars and widgets, which show nothing on a page."""
    for cell in notebook["cells"]:
        kept = []
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                lines = (line.split("\r")[-1] for line in "".join(output["text"]).split("\n"))
                output["text"] = "\n".join(line for line in lines if not PROGRESS.search(line))
                if output["name"] == "stderr" or not output["text"].strip():
                    continue
            elif "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                continue
            kept.append(output)
        if "outputs" in cell:
            cell["outputs"] = kept
    notebook["metadata"].pop("widgets", None)
    return notebook


def write_reference(folder: Path) -> list[str]:
    """A page for each public room of the library; returns the pages' names."""
    folder.mkdir()
    pages = []
    for module in pkgutil.iter_modules(raflib.__path__):
        if module.name.startswith("_"):
            continue
        name = f"raflib.{module.name}"
        room = __import__(name, fromlist=["__all__"])
        listed = ":imported-members:" if module.ispkg and getattr(room, "__all__", None) else ""
        documented = [name]
        if module.ispkg and not listed:
            inside = pkgutil.iter_modules(room.__path__)
            documented += [f"{name}.{part.name}" for part in inside if not part.name.startswith("_")]
        blocks = [f"```{{eval-rst}}\n.. automodule:: {each}\n   {listed}\n```" for each in documented]
        (folder / f"{module.name}.md").write_text("\n\n".join([f"# {name}", *blocks]), encoding="utf-8")
        pages.append(f"reference/{module.name}")
    return pages


def build(source: Path, html: Path, brief: bool = False) -> None:
    """Run Sphinx, with `brief` without the pages of source code. RafError naming the first problem, where it fails."""
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        raise RafError("Sphinx is not installed; pip install 'raflib[site]'") from None
    shutil.rmtree(html, ignore_errors=True)
    sys.path.insert(0, str(source))
    where = ["-d", str(source.parent / "doctrees"), str(source), str(html)]
    where = [*(["-t", "brief"] if brief else []), *where]
    status = build_main(["-q", "-W", "--keep-going", "-b", "html", "-j", "auto", *where])
    if status:
        raise RafError("a page has a mistake, or could not be built; the lines above name it")


class _Links(HTMLParser):
    """Targets and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := values.get(key))}
        self.targets += [value for key in ("href", "src") if (value := values.get(key))]


def broken_links(html: Path) -> list[str]:
    """Links to pages, files and anchors of the site that do not exist, one line each."""
    pages = {path.resolve(): _links(path) for path in html.rglob("*.html")}
    return sorted({line for path, links in pages.items() for line in _broken(html, path, links, pages)})


def _broken(html: Path, path: Path, links: _Links, pages: dict[Path, _Links]) -> Iterator[str]:
    for target in links.targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        page = path.relative_to(html.resolve())
        if not there.is_file():
            yield f"{page}: link to {target}, which does not exist"
        elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
            yield f"{page}: link to {target}, which has no such heading"


def _links(path: Path) -> _Links:
    links = _Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def _text_of(root: Path, page: str) -> Path | None:
    return next((path for kind in (".md", ".ipynb") if (path := root / f"{page}{kind}").is_file()), None)


def _is_page(path: Path) -> bool:
    return path.suffix in (".md", ".ipynb")


def _menu(title: str, pages: Iterable[str]) -> str:
    listed = "\n".join(pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {title}\n:maxdepth: 1\n\n{listed}\n```"


if __name__ == "__main__":
    raise SystemExit(main())

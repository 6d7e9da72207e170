"""Rules of the repository: pins, room order, README, file sizes, light imports, the list of make's targets."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
ALONE = {"mediapipe"}
"""Packages without their dependencies: pinned in constraints.txt, added to a conda environment by `make env`."""

ROOMS = (
    "errors", "geometry", "config", "system", "reading", "runs", "perceptual", "registry", "capture", "images",
    "render", "bank", "avatar", "coverage", "training", "tracking", "studio", "sampler", "driving", "sources",
    "openbank", "evaluation", "lab", "report", "viewer", "export", "study", "check", "__main__",
)  # fmt: skip
"""The rooms of raflib, bottom to top."""
LOOSE = {
    "errors",
    "geometry",
    "config",
    "system",
    "runs",
    "perceptual",
    "registry",
    "capture",
    "images",
    "__main__",
}
"""The rooms that are a single file; the others are folders."""

HEAVY = {"numba", "mediapipe", "matplotlib", "cv2", "av", "plotly", "skimage", "papermill", "IPython"}
HEAVY_ROOMS = {
    "render", "avatar", "tracking", "studio", "sources", "openbank", "training", "evaluation", "report", "perceptual",
    "viewer", "check", "export",
}  # fmt: skip


def pins(path: str) -> dict[str, str]:
    """Exact pins of a constraints file or of the pip section of an environment file."""
    text = (ROOT / path).read_text()
    if path.endswith(".yml"):
        lines = next(entry["pip"] for entry in yaml.safe_load(text)["dependencies"] if isinstance(entry, dict))
    else:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines), f"{path}: every requirement is an exact pin"
    return dict(line.split("==") for line in lines)


def test_environment_repeats_the_constraints():
    constraints = pins("constraints.txt")
    assert set(constraints) >= ALONE
    assert pins("environment.yml") == {name: pin for name, pin in constraints.items() if name not in ALONE}


def test_every_requirement_is_pinned_to_a_version_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraints = pins("constraints.txt")
    extras = project["optional-dependencies"]
    # The kit that downloads NeRSemble is not part of the environment: it would replace OpenCV's headless build.
    assert [str(Requirement(line).specifier)[:2] for line in extras.pop("nersemble")] == ["=="]
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(constraints[requirement.name]), requirement


def test_constraints_need_neither_cuda_nor_torchvision():
    names = set(pins("constraints.txt"))
    assert not {name for name in names if name.startswith(("nvidia", "cuda", "triton"))} | names & {"torchvision"}
    assert len([name for name in names if name.startswith("opencv")]) == 1, "two OpenCV builds overwrite each other"


def imported_files(path: Path, typing: bool = True) -> set[Path]:
    """Files of raflib that a file imports anywhere, also inside functions, and with `typing` for type checkers."""
    tree, found = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "raflib":
            assert node.level == 0, f"{path}: imports are absolute"
            module = ROOT / Path(*node.module.split("."))
            found |= {file_of(module / alias.name) or file_of(module) for alias in node.names}
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.split(".")[0] == "raflib")
            found |= {file_of(ROOT / Path(*name.split("."))) for name in names}
    return found - {None, ROOT / "raflib" / "__init__.py"}


def file_of(module: Path) -> Path | None:
    """The file of a module or package, None where it is neither."""
    candidates = (module.with_suffix(".py"), module / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def graph() -> dict[Path, set[Path]]:
    files = sorted((ROOT / "raflib").rglob("*.py"))
    return {path: imported_files(path) for path in files if path != ROOT / "raflib" / "__init__.py"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "raflib").parts[0].removesuffix(".py")


def test_a_room_imports_only_from_rooms_above_it():
    level = {room: index for index, room in enumerate(ROOMS)}
    assert {room_of(path) for path in graph()} == set(ROOMS)
    assert {path.stem for path in (ROOT / "raflib").glob("*.py")} == {"__init__", *LOOSE}
    wrong = [
        f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for path, others in graph().items()
        for other in others
        if level[room_of(other)] > level[room_of(path)]
    ]
    assert not wrong, wrong


def test_no_files_import_each_other_in_a_circle():
    """Imports of modules and functions are checked. Left out are a package's `__init__`, which gathers its files, and
    imports for type checkers."""
    edges = {
        path: {other for other in imported_files(path, typing=False) if other.name != "__init__.py"}
        for path in graph()
        if path.name != "__init__.py"
    }
    order, open_files = [], []

    def visit(path: Path) -> None:
        assert path not in open_files, " → ".join(str(p.relative_to(ROOT)) for p in [*open_files, path])
        if path not in order:
            open_files.append(path)
            for other in sorted(edges[path]):
                visit(other)
            open_files.pop()
            order.append(path)

    for path in edges:
        visit(path)


def test_notebook_libraries_stay_out_of_the_library():
    for path in (ROOT / "raflib").rglob("*.py"):
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            node.module.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        assert "lab" in path.parts or not names & {"IPython", "papermill"}, path


PAGES = (
    "README.md", "raflib/README.md", "notebooks/README.md", "notebooks/METRICS.md", "notebooks/RESULTS.md",
    "notebooks/VERDICT.md", "notebooks/GLOSSARY.md", "notebooks/PAPER_MAP.md", "data/README.md", "figures/README.md",
    "benchmarks/README.md",
)  # fmt: skip


def test_readme_commands_exist():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"env", "demo", "test", "lab", "train", "lint", "clean", "help"} <= targets
    used = set(re.findall(r"^(?:.*`| *)make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= used <= targets


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


def test_no_page_holds_a_blank_to_fill():
    for page in PAGES:
        assert not re.findall(r"\bMIN\d\d\b|\bCHECKSUMS\b|\bTODO\b", (ROOT / page).read_text()), page


def test_the_list_of_rooms_is_complete():
    listed, folders = set(), [ROOT / "raflib"]
    text = (ROOT / "raflib" / "README.md").read_text()
    for blanks, name in re.findall(r"^([│ ]*)[├└]── (\S+)", text, re.MULTILINE):
        folders[len(blanks) // 4 + 1 :] = [folders[len(blanks) // 4] / name]
        listed.add(folders[-1])
    files = {path for path in (ROOT / "raflib").rglob("*.py") if path.name != "__init__.py"}
    assert {path for path in listed if path.suffix} == files
    rooms = re.findall(r"^[├└]── (\w+)", text, re.MULTILINE)
    assert tuple(rooms) == ROOMS, "raflib/README.md lists the rooms in their order"


def test_readme_and_notebook_index_point_at_existing_files():
    for page in PAGES:
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
            assert "://" in target or (folder / target).exists(), f"{page} points at {target}"


def test_data_that_ships_is_listed_with_its_checksum():
    listed = dict(re.findall(r"^([0-9a-f]{64})  (data/\S+)$", (ROOT / "data" / "README.md").read_text(), re.MULTILINE))
    paths = [*ROOT.glob("data/*.npz"), *ROOT.glob("data/*.task"), *ROOT.glob("data/*.tflite")]
    shipped = {hashlib.sha256(path.read_bytes()).hexdigest(): f"data/{path.name}" for path in paths}
    assert listed == shipped, "data/README.md must repeat what `sha256sum data/*.npz data/*.task data/*.tflite` prints"


def tracked() -> list[Path]:
    """Return all paths that git tracks or would add; without git the test is skipped."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in names if name]


def test_no_large_file_is_tracked():
    allowed = {ROOT / "data" / "bank_open.npz": 20_000_000}
    files = [path for path in tracked() if path.is_file()]
    large = {str(p): p.stat().st_size for p in files if p.stat().st_size > allowed.get(p, 6_000_000)}
    assert not large


def test_no_link_is_tracked():
    """A link points to a place that other machines do not have."""
    assert [str(path) for path in tracked() if path.is_symlink()] == []


def test_no_unsafe_loading():
    """There is no pickle, no eval, and no torch.load of untrusted code; `pickletools` only lists a pickle's steps."""
    for path in (ROOT / "raflib").rglob("*.py"):
        source = path.read_text()
        tree = ast.parse(source)
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {function.id for function in calls if isinstance(function, ast.Name)}
        assert not called & {"eval", "exec"}, path
        unsafe = r"^\s*(import pickle|from pickle)\b|allow_pickle=True|weights_only=False"
        assert not re.search(unsafe, source, re.MULTILINE), path


def test_arrays_are_packed_in_one_place():
    """`pack_arrays` alone knows how much a packed file may hold that `read_arrays` reads."""
    assert [path for path in (ROOT / "raflib").rglob("*.py") if "savez_compressed(" in path.read_text()] == []


def test_modules_stay_readable():
    """Each module has at most 350 lines and begins with a docstring."""
    for path in (ROOT / "raflib").rglob("*.py"):
        source = path.read_text()
        assert len(source.splitlines()) <= 350, path
        assert not source.strip() or ast.get_docstring(ast.parse(source)), f"{path}: no module docstring"


@pytest.mark.parametrize(
    ("statement", "rooms_too"),
    [
        ("import raflib", True),
        ("from raflib.bank import ExpressionBank; from raflib.sampler import RAF", True),
        ("from raflib import ExpressionBank, RAF, Vanilla, RandomNoise", True),
        ("from raflib.bank.leaks import find_leaks", True),
        ("import raflib.bank", True),
    ],
)
def test_light_imports(statement, rooms_too):
    """Importing bank and sampler does not import renderer, tracker, studio or plotting."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    if rooms_too:
        assert not {name.split(".")[1] for name in loaded if name.startswith("raflib.")} & HEAVY_ROOMS


def test_make_help_lists_the_targets():
    shown = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("env", "demo", "test", "lab", "train", "bank", "lint", "clean"):
        assert f"make {target}" in shown


def test_continuous_integration_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_stand_in_libraries_load(tmp_path):
    """The libraries that are written for machines without graphics can be loaded, and their functions return 0."""
    import ctypes
    import platform

    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import headless_gl
    finally:
        sys.path.pop(0)
    if sys.platform != "linux" or platform.machine() not in headless_gl.RETURN_ZERO:
        pytest.skip("stand-ins are for Linux on x86_64 and aarch64")
    path = tmp_path / "libstandin.so.1"
    functions = ["eglOne", "eglTwo", "eglThree"]
    path.write_bytes(headless_gl.shared_library("libstandin.so.1", functions, platform.machine()))
    library = ctypes.CDLL(str(path))
    assert [library.eglOne(), library.eglTwo(), library.eglThree()] == [0, 0, 0]
    with pytest.raises(AttributeError):
        library.eglFour  # noqa: B018

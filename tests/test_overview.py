"""Notebook 00: what it lists, on a new project, with damaged folders and with foreign names."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from raflib.lab import overview
from raflib.lab.folders import read_name, run_folder
from raflib.lab.main_number import UNREADABLE
from raflib.runs import write_json
from raflib.sources._store import save_tracks

DAY = 86_400


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return the folder of a project without results and recordings; its name has a space and a special letter."""
    root = tmp_path / "my prøject"
    monkeypatch.setenv("RAF_ROOT", str(root))
    monkeypatch.setenv("RAF_RUNS", str(root / "runs"))
    monkeypatch.setenv("RAF_CACHE", str(root / "data" / "cache"))
    return root.resolve()


def write(path: Path, text: str, day: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (day * DAY, day * DAY))
    return path


def train(notebook: str = "04_train", steps: int = 20, **values) -> Path:
    """Write what notebook 04 or 08 leaves after `steps` of 20 steps."""
    folder = run_folder(notebook, values)
    write(folder / "log.csv", "step,psnr\n10,21.0\n20,24.0\n")
    write(folder / "look.png", "")
    write_json(folder / "run.json", {"finished": steps == 20, "steps": steps, "total_steps": 20})
    os.utime(folder / "run.json", (DAY, DAY))
    return folder


def evaluated(**values) -> Path:
    """Write what notebook 05 leaves; the truth's PSNR is infinite, and another condition must not count."""
    folder = run_folder("05_evaluate", values)
    rows = [
        "condition,part,psnr/face",
        "avatar,training frames,30",
        "avatar,held-out FREE,20",
        "avatar,held-out FREE,21",
    ]
    rows += ["control,held-out FREE,10", "truth,held-out FREE,inf", "avatar,cross-driving,18.04"]
    write(folder / "rows.csv", "\n".join(rows), day=2)
    return folder


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table below its head."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def links(text: str, root: Path) -> list[Path]:
    """The files that the links of a text name, seen from the folder of notebooks."""
    return [(root / "notebooks" / unquote(link)).resolve() for link in re.findall(r"\]\(([^)]+)\)", text)]


@pytest.mark.parametrize(
    ("notebook", "values", "told"),
    [
        ("01_subjects", {}, ("422", "", "demo", "", "")),
        ("04_train", {"method": "raf_random", "seed": 12, "p": 0.25}, ("422", "raf_random", "demo", "12", "p0.25")),
        ("05_evaluate", {"subject": "a_raf", "profile": "tiny"}, ("a-raf-0368c2", "raf", "tiny", "0", "")),
        ("08_your_video", {"video": "my_talk.mp4", "driver": "you.mp4"}, ("my_talk", "vanilla", "demo", "0", "")),
        ("11_coverage_in_the_plane", {"seed": 3}, ("", "", "tiny", "3", "")),
    ],
)
def test_a_folders_name_tells_what_it_was_made_of(notebook, values, told):
    read = read_name(run_folder(notebook, values).name)
    assert read and tuple(read.values()) == (notebook, *told)


@pytest.mark.parametrize("name", ["", "notebooks", "04_train", "04_train_422_raf_huge_0", "99_other_422_demo"])
def test_other_folders_are_no_results(name):
    assert read_name(name) is None


def test_a_new_project_has_nothing_and_begins_with_the_first_notebook(project):
    assert overview.results_table() == "There are no results yet in `runs`."
    assert overview.recordings_table().startswith("There are no recordings yet in `data/cache`.")
    plan = overview.plan_table("422", "demo")
    assert plan.startswith(
        "**Next:** open [01\\_subjects](../notebooks/01_subjects.ipynb) and run all cells. In a term"
    )
    assert "`papermill notebooks/01_subjects.ipynb runs/01_subjects_422_demo.ipynb -r subject 422`" in plan
    assert [row[3] for row in rows(plan)] == ["**next**", *[""] * 7]
    assert not project.exists(), "looking changes nothing"


def test_results_have_their_numbers_and_links_that_hold(project):
    copy = {"papermill": {"parameters": {"subject": "422", "p": 0.25}, "input_path": "notebooks/04_train.ipynb"}}
    write(project / "runs" / "04 näh.ipynb", json.dumps({"metadata": copy}))
    write(project / "runs" / "notebooks" / "05_evaluate_422_raf_demo.ipynb", "{}")
    failed = copy["papermill"] | {"exception": True, "parameters": {}}
    write(project / "runs" / "failed.ipynb", json.dumps({"metadata": {"papermill": failed}}))
    train(p=0.25), train(method="vanilla", steps=7)
    name = evaluated().name
    receipt = {"left": {f"{name}/rows.csv": "0" * 64}}
    write(project / "runs" / "notebooks" / "05_evaluate_422_raf_demo.json", json.dumps(receipt))
    table = overview.results_table()
    shown = {(row[0], row[2], row[5]): row for row in rows(table)}
    assert shown["04\\_train", "raf", "p0.25"][7] == "PSNR 22.5"
    assert shown["04\\_train", "raf", "p0.25"][6].startswith("1970\N{NON-BREAKING HYPHEN}01")
    assert shown["04\\_train", "vanilla", ""][7] == "not finished: step 7 of 20"
    assert shown["05\\_evaluate", "raf", ""][7] == "PSNR face 20.5, cross-driving 18.0"
    assert [path.name for path in links(shown["04\\_train", "raf", "p0.25"][8], project)] == [
        "look.png",
        "04 näh.ipynb",
    ]
    assert all(path.is_file() for path in links(table, project)) and len(links(table, project)) == 4
    assert next(result.folder.name for result in overview.results()) == name, "the newest first"
    assert "2 older ones are not shown" in overview.results_table(1) and len(rows(overview.results_table(1))) == 1


def test_the_next_step_is_the_first_that_is_missing_or_not_finished(project):
    for notebook in ("01_subjects", "02_bank", "03_coverage"):
        write(run_folder(notebook, {"profile": "tiny"}) / overview.DONE[notebook], "{}")
    train(method="vanilla", profile="tiny"), train(profile="tiny", steps=3)
    plan = overview.plan_table("422", "tiny")
    assert [row[3] for row in rows(plan)] == [*["done"] * 4, "**next**, not finished: step 3 of 20", "", "", ""]
    assert (
        'set `profile = "tiny"`, `method = "raf"` in its first cell,' in plan
        and "-p method raf -p profile tiny" in plan
    )
    train(profile="tiny")
    assert 'set `profile = "tiny"`, `method = "vanilla"` in' in overview.plan_table("422", "tiny")
    for method in ("vanilla", "raf"):
        evaluated(profile="tiny", method=method)
    write(run_folder("06_tables", {"profile": "tiny"}) / "table2.txt", "")
    assert overview.plan_table("422", "tiny").startswith("**Next:** all steps are done.")


def test_damaged_folders_and_files_are_listed_and_left_alone(project):
    for values in ({}, {"seed": 1}, {"seed": 2}):
        train(**values)
    (run_folder("04_train", {}) / "run.json").write_text('{"finished": "yes"')
    (run_folder("04_train", {"seed": 1}) / "log.csv").write_bytes(b"\0\xff")
    (run_folder("04_train", {"seed": 2}) / "log.csv").unlink()
    write(run_folder("02_bank", {}) / "summary.json", "[]")
    write(run_folder("03_coverage", {}) / "rows.csv", "a,b\n1\n")
    evaluated().joinpath("rows.csv").write_text("condition,part,psnr/face\navatar,held-out FREE,high\n")
    run_folder("01_subjects", {}).mkdir()
    write(run_folder("06_tables", {}), "a file")
    (
        write(project / "runs" / "notebooks" / "a.json", "no receipt"),
        write(project / "runs" / "notebooks" / "a.ipynb", ""),
    )
    for number, noted in enumerate(
        (3, {"parameters": 3}, {"parameters": {"profile": "huge"}, "input_path": "04_train"})
    ):
        write(project / "runs" / f"{number}.ipynb", json.dumps({"metadata": {"papermill": noted}}))
    write(project / "data" / "cache" / "studio" / "422-0123.npz", "no zip")
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    table = overview.results_table()
    assert [row[-2] for row in rows(table)] == [*[UNREADABLE] * 5, ""] and len(overview.results()) == 6
    assert "**next**" in overview.plan_table("422", "demo") and UNREADABLE in overview.plan_table("422", "demo")
    assert rows(overview.recordings_table()) == [["studio", UNREADABLE, "422", "0"]]
    assert before == {path: path.stat().st_mtime_ns for path in project.rglob("*")}


def test_names_are_text_and_not_markdown(project):
    hostile = project / "runs" / "01_subjects_<img src=x>|[a](b)*_demo"
    write(hostile / "contact_sheet.png", "")
    (row,) = rows(overview.results_table())
    assert row[1] == r"\<img src=x\>\|\[a\](b)\*"
    assert links(row[-1], project) == [hostile / "contact_sheet.png"]


def test_results_elsewhere_are_named_without_links(project, monkeypatch, tmp_path):
    monkeypatch.setenv("RAF_RUNS", str(tmp_path / "elsewhere"))
    train()
    table = overview.results_table()
    assert links(table, project) == [] and rows(table)[0][7] == "image"
    assert f"The folders are in `{tmp_path.resolve() / 'elsewhere'}`." in table


def test_recordings_are_grouped_by_their_profile(project):
    for source, name, frames in (
        ("studio", "422-01", 36),
        ("studio", "my-self-02", 36),
        ("studio", "422-03", 7),
        ("video", "me-04", 36),
    ):
        path = project / "data" / "cache" / source / f"{name}.npz"
        save_tracks(path, detected=np.ones(frames, bool))
    write(project / "data" / "cache" / "studio" / "422-01" / "camera-00" / "000000.png", "")
    assert rows(overview.recordings_table()) == [
        ["studio", "36 (profile tiny)", "422, my-self", "1"],
        ["studio", "7", "422", "0"],
        ["video", "36", "me", "0"],
    ]

"""The rooms that run notebooks: impossible parameters are refused at once, and no two results share a folder. Notebooks
find each other's results, and all known errors are raised before anything is rendered."""

from __future__ import annotations

import builtins
import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path

import documented
import nbformat
import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.config import SEEDS, train_config
from raflib.errors import RafError
from raflib.evaluation import REGISTRY
from raflib.lab import recordings, screen
from raflib.lab.banks import open_bank
from raflib.lab.folders import command, evaluation, gathered, made_by, run_folder
from raflib.lab.parameters import NOTEBOOKS, TrainParameters, notebook_parameters, parameters_of
from raflib.lab.ready import check_sampler, prepare, sampler_of
from raflib.lab.recordings import Recordings
from raflib.runs import check_writable, runs_root, write_json
from raflib.sampler import SAMPLERS, sampler_from_name


def given(notebook: str, **values):
    """The notebook's parameters, read as its second cell reads them."""
    return notebook_parameters({**asdict(NOTEBOOKS[notebook]()), **values}, notebook)


# --- ranges ---------------------------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "seed": (-1, SEEDS[1] + 1, 2**80),
    "steps": (-5, 10**10),
    "threads": (0, -1, 10**6),
    "top_k": (0, -1, 10**9),
    "repeats": (0, -3, 10**9),
    "queries": (-1, 10**6),
    "driver_frames": (-1, 10**6),
    "people": (0, 1, 1_000),
    "frames": (0, 10**6),
    "p": (-0.1, 1.1, float("nan"), float("inf")),
    "sigma": (-1.0, float("nan"), float("inf"), 1e30),
    "seconds": (0.0, -1.0, float("nan"), float("inf"), 1e300),
    "subject": ("", " ", "a/b", "../up", "/etc/passwd", "..", "a\0b", "a b", "x" * 33, "ünï", "-p", "all "),
    "drivers": ("E03 ../up", "E03 E03", "E03, E04", "422", "a/b"),
    "metric": ("", "psnr", "psnr/nose", "lpips/stlpips-alex/whole"),
    "method": ("", "RAF", "raf "),
    "profile": ("", "driver", "../demo"),
    "drive": ("", "direct "),
    "initialisation": ("simpel", "none"),
    "source": ("", "../studio"),
    "root": ("/no/such/folder", "a\0b"),
    "features": ("arkit", "../open42"),
    "search": ("true52", "open42 "),
    "own_frames": ("every", "all "),
    "model": ("/no/such/file", "a\0b"),
    "held_out": ("FREE", "EXP-1-head EXP-1-head"),
}
"""Values of the right type that no notebook can work with."""
FREE_TEXT = {"bank", "video", "driver"}
"""Parameters that name files; the files must exist when a folder is named by them."""


def test_every_parameter_has_values_that_it_refuses():
    for notebook, cls in NOTEBOOKS.items():
        names = {field.name for field in fields(cls) if field.type != "bool"}
        assert names <= IMPOSSIBLE.keys() | FREE_TEXT, f"{notebook}: say what {names - IMPOSSIBLE.keys()} may be"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_what_cannot_work_is_refused_and_named(notebook):
    for name, values in IMPOSSIBLE.items():
        if any(field.name == name for field in fields(NOTEBOOKS[notebook])):
            for value in values:
                with pytest.raises(RafError, match=rf"^{notebook}: parameter {name} is "):
                    given(notebook, **{name: value})


def test_the_ends_of_the_ranges_are_allowed():
    given("04_train", seed=SEEDS[1], threads=1, p=0, sigma=0, top_k=1, subject="a.B_-9")
    assert train_config("tiny", seed=given("04_train", seed=SEEDS[1]).seed).seed == SEEDS[1]
    given("04_train", p=1, threads=256, steps=1)
    given("05_evaluate", drivers="E03 443")
    assert given("05_evaluate", drivers=388).drivers == "388", "papermill takes -p drivers 388 for a number"
    for metric in set(REGISTRY) - {"lpips/stlpips-alex/whole"}:
        given("09_beyond", metric=metric)


def test_videos_where_the_truth_is_needed_are_refused_by_the_first_cell():
    for notebook in ("01_subjects", "03_coverage", "05_evaluate", "06_tables", "07_user_study", "09_beyond"):
        with pytest.raises(RafError, match=r"source is 'video'; expected one of studio, .*run 08_your_video"):
            given(notebook, source="video", subject="/films/me.mp4")
    assert given("04_train", source="video", subject="/films/me.mp4").subject == "/films/me.mp4"


def test_rebuilding_and_loading_a_bank_are_not_asked_for_together():
    with pytest.raises(RafError, match="set only one of them"):
        given("02_bank", rebuild=True, bank="half1")


# --- folders --------------------------------------------------------------------------------------------------------


def test_default_parameters_have_the_names_they_always_had():
    names = {notebook: run_folder(notebook, {}).name for notebook in NOTEBOOKS if notebook != "08_your_video"}
    assert names == {
        "00_start": "00_start_422_demo",
        "01_subjects": "01_subjects_422_demo",
        "02_bank": "02_bank_422_demo",
        "03_coverage": "03_coverage_422_demo",
        "04_train": "04_train_422_raf_demo_0",
        "05_evaluate": "05_evaluate_422_raf_demo_0",
        "06_tables": "06_tables_422_demo_0",
        "07_user_study": "07_user_study_422_demo",
        "09_beyond": "09_beyond_422_demo_0",
        "10_raf_from_nothing": "10_raf_from_nothing_422_tiny_0",
        "11_coverage_in_the_plane": "11_coverage_in_the_plane_tiny_0",
        "12_splats": "12_splats_422_tiny_0",
    }
    assert run_folder("04_train", {}).parent == runs_root()


@pytest.mark.parametrize(
    ("notebook", "values", "name"),
    [
        ("04_train", {"p": 0.25}, "04_train_422_raf_demo_0_p0.25"),
        ("04_train", {"p": 1.0}, "04_train_422_raf_demo_0_p1"),
        ("04_train", {"method": "noise", "sigma": 0.5}, "04_train_422_noise_demo_0_sigma0.5"),
        ("04_train", {"steps": 20_000}, "04_train_422_raf_demo_0_steps20000"),
        ("04_train", {"bank": "half1", "top_k": 5}, "04_train_422_raf_demo_0_half1_top5"),
        ("04_train", {"initialisation": "guided"}, "04_train_422_raf_demo_0_guided"),
        ("04_train", {"method": "vanilla", "bank": "half1", "p": 0.1, "sigma": 1.0}, "04_train_422_vanilla_demo_0"),
        ("04_train", {"initialisation": "simple", "steps": 6_900}, "04_train_422_raf_demo_0"),
        ("04_train", {"threads": 7}, "04_train_422_raf_demo_0"),
        ("04_train", {"search": "open42", "p": 0.25}, "04_train_422_raf_demo_0_p0.25_search-open42"),
        ("04_train", {"search": "open42", "method": "vanilla"}, "04_train_422_vanilla_demo_0"),
        ("04_train", {"search": "open42", "method": "raf_random"}, "04_train_422_raf_random_demo_0"),
        ("05_evaluate", {"search": "open42", "features": "open42"}, "05_evaluate_422_raf_demo_0_search-open42_open42"),
        ("06_tables", {"search": "open42"}, "06_tables_422_demo_0_search-open42"),
        ("09_beyond", {"search": "open42"}, "09_beyond_422_demo_0_search-open42"),
        ("02_bank", {"search": "open42"}, "02_bank_422_demo_search-open42"),
        ("03_coverage", {"search": "open42", "top_k": 5}, "03_coverage_422_demo_top5_search-open42"),
        ("05_evaluate", {"p": 0.25, "drive": "relative"}, "05_evaluate_422_raf_demo_0_p0.25_relative"),
        ("05_evaluate", {"drivers": "E03"}, "05_evaluate_422_raf_demo_0_drivers-E03"),
        ("05_evaluate", {"driver_frames": 20}, "05_evaluate_422_raf_demo_0_frames20"),
        ("06_tables", {"sigma": 0.5, "p": 0.25}, "06_tables_422_demo_0_p0.25_sigma0.5"),
        ("02_bank", {"rebuild": True, "people": 40}, "02_bank_422_demo_rebuilt_people40"),
        ("02_bank", {"people": 40}, "02_bank_422_demo"),
        ("03_coverage", {"own_frames": "all"}, "03_coverage_422_demo"),
        ("03_coverage", {"own_frames": "training"}, "03_coverage_422_demo_frames-training"),
        ("03_coverage", {"own_frames": "training", "profile": "tiny"}, "03_coverage_422_tiny"),
        ("03_coverage", {"own_frames": "all", "profile": "tiny"}, "03_coverage_422_tiny_frames-all"),
        ("03_coverage", {"subject": "all", "repeats": 3, "seed": 1}, "03_coverage_all_demo_repeats3_seed1"),
    ],
)
def test_what_changes_a_result_is_in_the_name_and_nothing_else_is(notebook, values, name):
    assert run_folder(notebook, given(notebook, **values)).name == name
    assert run_folder(notebook, {key: str(value) for key, value in values.items()}).name == name, "as on a command line"


OTHER = {
    "features": ("open42",), "search": ("open42",), "held_out": ("EXP-1-head", "EXP-1-head FREE2"),
    "source": ("video",), "subject": ("443", "422_demo", "422-demo", "a_raf"),
    "method": ("vanilla", "noise", "raf_pose"),
    "profile": ("tiny", "demo", "gpu", "paper"), "bank": ("half1", "half2", "small"), "p": (0.25, 1.0),
    "top_k": (5, 51), "sigma": (0.5, 0.081), "initialisation": ("guided",), "steps": (20_000, 2), "seed": (1, 12),
    "repeats": (3, 31), "queries": (5, 31),
    "drivers": ("E03", "E03 E04", "E04 E03", "E03_E04"), "drive": ("relative", "nearest"), "driver_frames": (20, 2),
    "metric": ("psnr/whole", "ssim/face"), "people": (40,), "frames": (100,), "rebuild": (True,),
    "own_frames": ("training",),
}  # fmt: skip
WITHOUT_EFFECT = {"threads", "seconds", "driver", "video"}
FILES = {"root", "model"}
"""Parameters whose files `test_recordings` and `test_videos_and_bank_files_are_told_apart_by_content` make."""


@pytest.mark.parametrize("notebook", [name for name in NOTEBOOKS if name != "08_your_video"])
def test_no_two_results_share_a_folder(notebook):
    """With one or two changed parameters, all folders differ, no name is long, and no folder lies elsewhere."""
    start = NOTEBOOKS[notebook]()
    changes = [{}]
    for field in fields(start):
        assert field.name in OTHER or field.name in WITHOUT_EFFECT | FILES
        changes += [{**change, field.name: v} for change in changes[:60] for v in OTHER.get(field.name, ())]
    seen = {}
    for change in changes:
        if change.get("source") == "video" or ("rebuild" in change and "bank" in change):
            continue
        p = replace(start, **change)
        folder = run_folder(notebook, p)
        assert folder.parent == runs_root() and len(folder.name) < 200
        seen.setdefault(folder.name, []).append(effective(p))
    assert all(len(set(meant)) == 1 for meant in seen.values())
    assert len(seen) > len([field for field in fields(start) if field.name in OTHER])


def effective(p) -> tuple:
    """Return the parameters without those that have no effect on this method."""
    values = asdict(p)
    if "method" in values:
        options = SAMPLERS[p.method].options()
        for name in ("p", "top_k", "sigma", "search"):
            if name not in options:
                values.pop(name)
        if not SAMPLERS[p.method].needs_bank():
            values.pop("bank")
    if "initialisation" in values:
        start, steps = values.pop("initialisation"), values.pop("steps")
        values["training"] = train_config(p.profile, start, **({"steps": steps} if steps else {}))
    if "rebuild" in values and not p.rebuild:
        values = {name: value for name, value in values.items() if name not in ("people", "frames")}
    return tuple(values.items())


def test_videos_and_bank_files_are_told_apart_by_content(tmp_path):
    names = set()
    for folder, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "my talk.mp4"
        path.write_bytes(content)
        names.add(run_folder("04_train", {"source": "video", "subject": str(path)}))
        names.add(run_folder("08_your_video", {"video": str(path), "driver": "you.mp4"}))
    assert len(names) == 4 and all(path.parent == runs_root() for path in names)
    long = tmp_path / f"{'x' * 240}.mp4"
    long.write_bytes(b"three")
    assert len(run_folder("08_your_video", {"video": str(long), "driver": "you.mp4", "bank": "half1"}).name) < 200
    with pytest.raises(RafError, match="set video"):
        run_folder("08_your_video", {"video": str(long)})
    for hostile in ("../../up", "x" * 300, "a\0b"):
        with pytest.raises(RafError, match="neither a variant"):
            run_folder("04_train", {"bank": hostile})


def test_values_from_a_command_line_are_read_as_their_kind():
    p = parameters_of("04_train", {"seed": "1", "p": "0.25", "subject": "074", "drive": "relative"})
    assert (p.seed, p.p, p.subject) == (1, 0.25, "074")
    with pytest.raises(RafError, match="parameter seed must be int, got str 'one'"):
        parameters_of("04_train", {"seed": "one"})


# --- finding each other ---------------------------------------------------------------------------------------------


def leads_to(line: str) -> Path:
    """The folder of the papermill command `line`."""
    words = shlex.split(line)
    assert words[0] == "papermill" and (documented.ROOT / words[1]).is_file()
    notebook = Path(words[1]).stem
    return run_folder(notebook, given(notebook, **documented.parameters(words)))


@pytest.mark.parametrize(
    "values", [{}, {"subject": "074", "method": "noise", "sigma": 0.5}, {"subject": "1e3", "steps": 7, "bank": "half1"}]
)
def test_what_is_missing_comes_with_the_command_that_makes_it(values):
    p = given("05_evaluate", **{**values, "seed": 77})
    with pytest.raises(RafError, match=r"05_evaluate needs 04_train, and .* run: papermill") as caught:
        made_by("04_train", p, "05_evaluate")
    assert leads_to(str(caught.value).split("run: ")[1]) == run_folder("04_train", p)
    with pytest.raises(RafError, match="06_tables needs 05_evaluate for at least one of vanilla, raf") as caught:
        gathered("05_evaluate", given("06_tables", seed=77), "06_tables", ("vanilla", "raf"))
    lines = str(caught.value).split("run: ")[1].split(" && ")
    assert [leads_to(line).name for line in lines] == [
        "04_train_422_vanilla_demo_77",
        "05_evaluate_422_vanilla_demo_77",
    ]


def test_results_are_found_by_their_parameters_and_unfinished_ones_are_not_used(capsys):
    p = given("05_evaluate", seed=78, p=0.25)
    folder = run_folder("04_train", p)
    write_json(folder / "run.json", {"finished": False})
    with pytest.raises(RafError, match=r"was interrupted; go on with it: papermill .* -p p 0\.25"):
        made_by("04_train", p, "05_evaluate")
    write_json(folder / "run.json", {"finished": True})
    assert made_by("04_train", p, "05_evaluate") == folder
    left = run_folder("05_evaluate", p, method="noise")
    left.mkdir(parents=True)
    (left / "rows.csv").write_text("subject\n")
    assert gathered("05_evaluate", p, "06_tables", ("noise", "raf")) == {"noise": left}
    assert f"without a result: raf; made by: {evaluation(p, 'raf')}" in capsys.readouterr().out


def test_commands_are_for_the_projects_folder(monkeypatch):
    monkeypatch.delenv("RAF_RUNS")
    line = command("04_train", TrainParameters(subject="074", bank=""))
    assert line == "papermill notebooks/04_train.ipynb runs/04_train_074_raf_demo_0.ipynb -r subject 074 -p method raf"


# --- before anything is filmed --------------------------------------------------------------------------------------


def cells(notebook: str, monkeypatch, until: str, **values) -> dict:
    """Run the notebook's code cells to the first that holds `until`, with these parameters and no cameras."""

    def filmed(*_, **__):
        raise AssertionError("filmed")

    monkeypatch.setattr(recordings, "open_capture", filmed)
    read = nbformat.read(documented.ROOT / "notebooks" / f"{notebook}.ipynb", 4).cells
    source = [cell.source for cell in read if cell.cell_type == "code"]
    last = next(number for number, cell in enumerate(source) if until in cell)
    space: dict = {"In": []}
    exec(source[0], space)
    space |= {"profile": "tiny", **values}
    for cell in source[1 : last + 1]:
        exec(cell, space)
    return space


def crowd(people, rows=3, width=52):
    draw = np.random.default_rng(0)
    features = draw.uniform(size=(len(people) * rows, width)).astype(np.float32)
    return ExpressionBank(features, np.repeat(people, rows), ["FREE"] * len(features), range(len(features)), "arkit52")


@pytest.mark.parametrize(
    ("notebook", "values", "message"),
    [
        ("04_train", {"top_k": 50_000, "bank": "small"}, "k"),
        ("04_train", {"bank": "{with_422}"}, "holds frames of 422"),
        ("04_train", {"bank": "{few}", "method": "raf_people"}, "people is 5"),
        ("04_train", {"bank": "{few}", "method": "raf_pose"}, "rotation"),
        ("04_train", {"bank": "{other_width}"}, "52"),
        ("03_coverage", {"top_k": 50_000, "bank": "small"}, "k"),
        ("03_coverage", {"bank": "{with_445}"}, "holds frames of 445"),
        ("03_coverage", {"bank": "nowhere.npz"}, "nowhere.npz"),
        ("09_beyond", {"bank": "{with_445}"}, "holds frames of 445"),
        *[
            (
                notebook,
                {"bank": "{few}", "search": "bfm64", "model": __file__},
                "search is 'bfm64', .* arkit52 features",
            )
            for notebook in ("02_bank", "03_coverage", "04_train", "09_beyond")
        ],
        *[
            (notebook, {"bank": "{few}", "features": "open42"}, "holds arkit52 features .* 422 open42; .*`features`")
            for notebook in ("02_bank", "03_coverage", "04_train", "09_beyond")
        ],
        ("02_bank", {"bank": "{single}"}, "holds 1 person"),
        ("02_bank", {"bank": "{strange}"}, "performs no frame"),
        ("06_tables", {"seed": 79}, "06_tables needs 05_evaluate"),
        ("05_evaluate", {"seed": 79}, "05_evaluate needs 04_train"),
    ],
)
def test_what_is_known_beforehand_is_said_before_anything_is_filmed(notebook, values, message, monkeypatch, tmp_path):
    banks = {
        "with_422": crowd(["422", "B001"]), "few": crowd(["B001", "B002"]), "with_445": crowd(["445", "B001"]),
        "other_width": crowd(["B001", "B002"], width=51), "single": crowd(["B001"]),
        "strange": replace(crowd(["B001", "B002"]), frame=np.full(6, 10**6)),
    }  # fmt: skip
    for name, bank in banks.items():
        if values.get("bank") == f"{{{name}}}":
            bank.save(tmp_path / f"{name}.npz")
            values = {**values, "bank": str(tmp_path / f"{name}.npz")}
    with pytest.raises(RafError, match=message):
        cells(notebook, monkeypatch, "recordings.", **values)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("variable", ["RAF_RUNS", "RAF_CACHE"])
def test_folders_that_cannot_be_written_are_named_by_the_second_cell(notebook, variable, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(variable, str(tmp_path / "file" / "below"))
    videos = {"video": "me.mp4", "driver": "you.mp4"} if notebook == "08_your_video" else {}
    with pytest.raises(RafError, match=rf"file/below: cannot be written .*{variable}"):
        cells(notebook, monkeypatch, "notebook_parameters(", **videos)


def test_a_full_disk_is_found_at_once():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(RafError, match="cannot be written"):
        check_writable(Path("/dev/full"), "free some space")


def test_a_good_sampler_passes_and_has_the_notebooks_options():
    bank = open_bank("small")
    bank = bank.with_space("true52", bank.features)
    for method in SAMPLERS:
        sampler = sampler_of(method, given("09_beyond", p=0.25, sigma=0.5, top_k=2), bank)
        check_sampler(sampler, Recordings(), "422", unseen=["422", "443"], spaces=["true52"])
        told = sampler.describe()
        assert told.get("p", 0.25) == 0.25 and told.get("sigma", 0.5) == 0.5 and told.get("top_k", 2) == 2
    check_sampler(sampler_from_name("vanilla"), Recordings(), "422")


# --- what one sees --------------------------------------------------------------------------------------------------


def test_an_error_shows_one_line_in_a_notebook():
    assert RafError("a\n b: expected c")._render_traceback_() == ["RafError: a b: expected c"]


def test_tiny_runs_say_what_they_are_worth(capsys, tmp_path):
    prepare(tmp_path, given("01_subjects", profile="tiny"))
    assert "this proves only that it runs" in capsys.readouterr().out
    prepare(tmp_path, given("01_subjects"))
    assert capsys.readouterr().out == ""
    assert screen.about("Table 2", "demo") == "Table 2" and screen.TINY in screen.about("Table 2", "tiny")


def test_outside_notebooks_nothing_changes():
    before = vars(tqdm)["__init__"], pd.get_option("display.max_colwidth")
    screen.set_up()
    assert (vars(tqdm)["__init__"], pd.get_option("display.max_colwidth")) == before


def test_bars_in_notebooks(monkeypatch, capsys):
    """A bar uses one line of standard output, empty at the end. An empty bar shows nothing; standard error is empty."""
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    monkeypatch.setattr(tqdm, "__init__", tqdm.__init__)
    with pd.option_context("display.max_colwidth", 50, "display.max_columns", 20, "display.max_rows", 60):
        screen.set_up()
        screen.set_up()
        assert pd.get_option("display.max_colwidth") is None
    assert not list(tqdm([], desc="none")) and not list(tqdm(range(0), desc="none"))
    for _ in tqdm(range(3), desc="outer", delay=0, mininterval=0):
        for _ in tqdm(iter("ab"), total=2, desc="inner", delay=0, mininterval=0):
            pass
    shown = capsys.readouterr()
    assert shown.err == "" and "none" not in shown.out and "outer" in shown.out and "inner" in shown.out
    assert "\n" not in shown.out and shown.out.split("\r")[-2].strip() == "", "one line, cleared"
    monkeypatch.undo()
    assert tqdm.__init__.__name__ != screen.SINGLE

"""Tables 2 and 3, true errors and verdicts from result rows, and the pages that hold them."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grid_rows import grid_rows

from raflib import report
from raflib.errors import RafError
from raflib.lab.cells import labelled, shipped_rows
from raflib.lab.rows import load_rows, save_rows
from raflib.report.grid_tables import STAR, differences, truth_table
from raflib.report.paper_table2 import COLUMNS, PAPER2
from raflib.report.paper_table3 import PAPER3
from raflib.report.sheet import Sheet, Value, escaped
from raflib.report.tables import MARK
from raflib.report.verdict import CLAIMS, OURS, REFUTED, SUPPORTED, UNKNOWN, Claim, verdict_sheet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import results_tables

import figures

sys.path.pop(0)
ROOT = Path(__file__).resolve().parents[1]
PAPER_TEXT = ROOT.parent / "shared" / "paper.txt"


@pytest.fixture(scope="module")
def rows():
    labels = ["vanilla", "noise-0.08", "raf", "raf-half1", "raf-top5"]
    made = grid_rows(labels=labels, gain={"raf": 2.0, "raf-top5": 2.0, "raf-half1": -1.0})
    return made[~((made["subject"] == "443") & (made["top_k"] == 5))]


def numbers(line: list[str]) -> list[float]:
    return [float(cell) if cell else np.nan for cell in line]


# --- sheets -----------------------------------------------------------------------------------------------------------


def test_a_sheet_has_the_same_numbers_in_all_formats(tmp_path):
    entries = [["a|b", 3, Value(-0.1234, -0.2, -0.05, 2, mark=STAR)], ["50 %_", 4, Value(1.0, digits=1, bold=True)]]
    sheet = Sheet("made_up", ["name", "count", "x ↓"], entries, "σ is 5 % of {this} & that\\.")
    head, rule, first, second, _, caption = report.markdown(sheet).splitlines()
    assert (head, rule) == ("| name | count | x ↓ |", "| --- | ---: | ---: |")
    assert first == "| a\\|b | 3 | −0.12 [−0.20, −0.05] * |" and second == "| 50 %_ | 4 | **1.0** |"
    assert caption == sheet.caption
    table = list(csv.reader(io.StringIO(report.csv_text(sheet))))
    assert table[0] == ["name", "count", "x ↓", "x ↓ low", "x ↓ high"]
    assert table[1:] == [["a|b", "3", "-0.1234", "-0.2", "-0.05"], ["50 %_", "4", "1.0", "", ""]]
    text = report.latex(sheet)
    assert r"\caption{$\sigma$ is 5 \% of \{this\} \& that\textbackslash{}.}" in text
    assert r"50 \%\_ & 4 & \textbf{1.0} \\" in text and r"\begin{tabular}{lrr}" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert [path.name for path in report.write_sheet(sheet, tmp_path)] == ["made_up.md", "made_up.csv", "made_up.tex"]
    assert (tmp_path / "made_up.tex").read_text() == text


@pytest.fixture(scope="module")
def tables(rows):
    (made,) = report.paper_tables(rows)
    return made


def test_no_table_leaves_a_character_that_latex_cannot_print(tables, judged):
    for sheet in [*tables.sheets, judged]:
        text = report.latex(sheet)
        assert text.isascii(), sheet.name
        body = re.sub(r"\\[%&$#_{}]", "", text)
        assert "%" not in body and "#" not in body and "_" not in body.replace(f"tab:{sheet.name}", "")
        assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    assert escaped("a~b^c<d|e") == r"a\textasciitilde{}b\textasciicircum{}c\textless{}d\textbar{}e"


def test_numbers_without_a_value_and_zeros_are_written_plainly():
    assert [Value(x, digits=2).text for x in (np.nan, np.inf, -0.001, -1.005)] == ["–", "∞", "0.00", "−1.00"]


# --- tables 2 and 3 ---------------------------------------------------------------------------------------------------


def test_table_2_has_subjects_averages_and_the_papers_numbers(rows):
    part = labelled(rows)
    sheet = report.table2(part, "About.")
    table = list(csv.reader(io.StringIO(report.csv_text(sheet))))[1:]
    assert [line[1] for line in table[:7]] == ["388", "422", "443", "445", "475", "average of 3", "the paper's"]
    assert len(table) == 3 * 7 + 1 and table[-1][0] == "truth"
    raf = part[(part["label"] == "raf") & (part["condition"] == "avatar") & (part["protocol"] == "self")]
    mine = [line for line in table if line[0] == "RAF"]
    assert float(mine[0][3]) == pytest.approx(raf[raf["subject"] == "388"]["psnr/face"].mean())
    assert float(mine[5][3]) == pytest.approx(raf.groupby("subject")["psnr/face"].mean().mean())
    assert mine[3][2:] == ["0", *[""] * 8] and mine[5][2] == "6"
    assert numbers(mine[6][3:]) == list(PAPER2["raf"])
    assert sheet.caption.startswith("Table 2. About. 3 subjects (388, 422, 443), 2 seeds (0, 1), 6 drivers; 18 of 30")
    assert "vanilla 445 (0, 1)" in sheet.caption


def test_the_best_average_is_bold_unless_the_truth_is_not_better(rows):
    text = report.markdown(report.table2(labelled(rows)))
    averages = [line.split(" | ") for line in text.splitlines() if "average of" in line]
    assert ["**" in line[3] for line in averages] == [False, False, True]
    aed = [line[8] for line in averages]
    assert all(cell.endswith(MARK) and "**" not in cell for cell in aed), "the true image is not best there"
    assert f"{MARK} The true image" in text and "not measured" in text.splitlines()[0]


def test_averages_over_different_avatars_are_not_bold(rows):
    sheet = report.table3(labelled(rows))
    assert "**" not in report.markdown(sheet) and "over different avatars" in sheet.caption
    assert "average of 2" in report.markdown(sheet)
    none = [line for line in report.markdown(sheet).splitlines() if line.startswith("| Half bank #2 ")]
    assert len(none) == 1 and "the paper's" in none[0], "a method without avatars has the paper's numbers only"
    assert "raf-half2 (all)" in sheet.caption and "raf-half2 388" not in sheet.caption


def test_a_method_has_no_average_where_some_of_its_avatars_lack_the_metric(rows):
    part = labelled(rows)
    fer = part["label"].eq("raf") | part["subject"].eq("388")
    part["emotion/fer/cos"] = part["psnr/face"].where(fer & (part["condition"] != "truth"))
    sheet = report.table2(part)
    table = list(csv.reader(io.StringIO(report.csv_text(sheet))))
    column = table[0].index("self emotion ↑ (emotion/fer/cos)")
    shown = {(line[0], line[1]): line[column] for line in table[1:]}
    assert shown["Original (vanilla)", "388"] and not shown["Original (vanilla)", "average of 3"]
    assert shown["RAF", "average of 3"] and "so some averages are missing: self emotion" in sheet.caption
    text = report.markdown(sheet)
    assert all("**" not in line.split(" | ")[column] for line in text.splitlines() if "average of" in line)
    part["aed/deca/l1"] = part["aed/arkit52/l1"].where(part["subject"].eq("388"))
    claim = claimed("raf", "vanilla", "aed", "self")
    with_few, without = (words(report.verdict_sheet(table), claim) for table in (part.drop(columns="label"), rows))
    assert with_few == without, "a metric of few avatars does not decide"
    one_seed = part["seed"].eq(0) | part["label"].ne("raf")
    part["emotion/fer/cos"] = part["psnr/face"].where(one_seed & (part["condition"] != "truth"))
    table = list(csv.reader(io.StringIO(report.csv_text(report.table2(part)))))
    shown = {(line[0], line[1]): line[column] for line in table[1:]}
    assert not shown["RAF", "average of 3"] and shown["Original (vanilla)", "average of 3"]


def test_tables_of_a_few_cells_and_of_none():
    one = labelled(grid_rows(["422"], ["raf"], [0], frames=1))
    assert "1 of 15 avatars" in report.table2(one).caption
    with pytest.raises(RafError, match="table3: the rows hold none of raf-half1"):
        report.table3(labelled(grid_rows(["422"], ["vanilla"], [0], frames=1)))


@pytest.mark.skipif(not PAPER_TEXT.is_file(), reason="the paper's text is not beside the checkout")
def test_the_papers_numbers_are_the_papers():
    lines = PAPER_TEXT.read_text().splitlines()
    names = {"Original": "vanilla", "Random Noise": "noise-0.08", "Ours (RAF)": "raf"}
    names |= {"\\rowcolorlightgray Half bank #1": "raf-half1", "Half bank #2": "raf-half2", "RAF (top 5)": "raf-top5"}
    found = {}
    for begin, label in names.items():
        (line,) = [line for line in lines if re.match(re.escape(begin) + r" [-\d]", line)]
        found[label] = [np.nan if word == "-" else float(word) for word in line[len(begin) :].split()]
    assert len(COLUMNS) == 8
    for label, wanted in found.items():
        assert np.array_equal(wanted, {**PAPER2, **PAPER3}[label], equal_nan=True), label


def test_the_true_error_has_the_control_and_needs_true_images(rows):
    sheet = truth_table(labelled(rows))
    names = ["vanilla", "noise-0.08", "raf", "raf-top5", "raf-half1", "control (vanilla's)", "truth"]
    assert [row[0] for row in sheet.rows] == names
    assert sheet.rows[3][1:3] == [2, 4]
    assert sheet.rows[-2][3].mean == pytest.approx(sheet.rows[0][3].mean - 3)
    assert sheet.rows[-1][2] == "" and sheet.rows[-1][3].mean == np.inf and sheet.rows[-1][4].mean == 0
    assert "raf-aligned (all)" in sheet.caption, "methods without any avatar are named"
    untold = truth_table(labelled(rows[rows["condition"] != "truth"]))
    assert [row[0] for row in untold.rows] == names[:-1]
    with pytest.raises(RafError, match="no comparison with true images"):
        truth_table(labelled(rows)[["label", "protocol", "condition", "part", "subject", "seed", "driver"]])


def test_tables_that_cannot_be_made_are_told_and_settings_have_their_own_files(rows):
    vanilla = rows[rows["method"] == "vanilla"]
    (tables,) = report.paper_tables(vanilla)
    assert [sheet.name for sheet in tables.sheets] == ["table2_profile-tiny", "cross_truth_profile-tiny"]
    assert len(tables.left_out) == 3 and "table3" in tables.left_out[0]
    both = list(report.paper_tables(pd.concat([vanilla, vanilla.assign(features="open42")])))
    names = [sheet.name for tables in both for sheet in tables.sheets]
    assert len(names) == len(set(names)) == 4 and "table2_features-open42_profile-tiny" in names


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(rows):
    return verdict_sheet(rows)


def words(sheet, claim):
    table = {row[0]: row for row in sheet.rows}
    return str(table[claim.text][4])


def claimed(label, baseline, measure, protocol="cross"):
    wanted = (label, baseline, measure, protocol)
    return next(c for c in (*CLAIMS, *OURS) if (c.label, c.baseline, c.measure, c.protocol) == wanted)


def test_verdicts_follow_from_the_rows(judged, rows):
    assert words(judged, claimed("raf", "vanilla", "aed")) == SUPPORTED
    assert words(judged, claimed("raf", "vanilla", "apd")) == REFUTED, "the paper says that RAF harms head pose"
    assert words(judged, claimed("raf-half1", "raf", "aed")) == SUPPORTED
    assert words(judged, claimed("raf-top5", "raf", "aed")).startswith(
        f"{UNKNOWN}: the interval holds 0; effects up to"
    )
    assert "not measured yet; `make paper PAPER_ARGS=" in words(judged, claimed("raf-half2", "raf", "aed"))
    assert "weights were missing" in words(judged, claimed("raf", "vanilla", "emotion"))
    one = verdict_sheet(rows[(rows["subject"] == "388") & rows["method"].isin(["vanilla", "raf"])])
    assert words(one, claimed("raf", "vanilla", "aed")) == f"{UNKNOWN}: one subject"


def test_a_claim_of_no_effect_needs_a_narrow_interval(judged):
    claim = claimed("noise-0.08", "vanilla", "aed")
    assert claim.wanted == "same" and claim.margin() == pytest.approx(0.0323, abs=1e-3)
    assert words(judged, claim).startswith(f"{UNKNOWN}: an effect as large")
    few = {"labels": ["vanilla", "noise-0.08"], "frames": 2}
    few["spread"] = dict.fromkeys(("subject", "driver", "seed", "frame"), 0.001)
    assert words(verdict_sheet(grid_rows(**few)), claim) == SUPPORTED
    assert words(verdict_sheet(grid_rows(**few, gain={"noise-0.08": 3.0})), claim) == REFUTED


def test_methods_without_a_shared_avatar_are_not_compared():
    apart = pd.concat(
        [grid_rows(["388", "422"], ["vanilla", "raf"], [0, 1]), grid_rows(["388", "422"], ["noise-0.08"], [1]),
         grid_rows(["388", "422"], ["noise-matched"], [2])], ignore_index=True,
    )  # fmt: skip
    summary = differences(labelled(apart), "noise-0.08", "cross")
    assert summary.index.tolist() == ["vanilla − noise-0.08", "raf − noise-0.08"] and set(summary["seeds", ""]) == {1}
    assert differences(labelled(apart), "noise-matched", "cross") is None
    claims = {row[0]: row[-1] for row in verdict_sheet(apart).rows}
    assert "not measured" not in claims["RAF improves expressions in cross-driving over noise"]
    assert "not measured yet" in claims["Neighbours beat matched noise"]


def test_a_metric_that_cannot_rank_decides_nothing(rows):
    blind = rows[rows["method"].isin(["vanilla", "raf"]) & (rows["bank"] == "") & (rows["top_k"] == 1)]
    blind = blind.assign(**{"aed/arkit52/l1/truth": blind["aed/arkit52/l1"]})
    assert "the true image does not score best" in words(verdict_sheet(blind), claimed("raf", "vanilla", "aed"))


def test_without_rows_every_claim_names_its_command():
    sheet = verdict_sheet(None)
    assert len(sheet.rows) == len(CLAIMS) + len(OURS) and len({row[0] for row in sheet.rows}) == len(sheet.rows)
    assert all(str(row[4]).startswith(f"{UNKNOWN}: not measured yet; `make paper") for row in sheet.rows)
    assert Claim("", "", "raf", "vanilla", "cross", "aed", "better").papers == "0.27037 → 0.26164 (−3.2 %)"


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_hold_the_tables_of_the_rows_that_ship():
    """To the last digit; `python scripts/results_tables.py --write` makes them again."""
    texts = results_tables.blocks(shipped_rows()) | results_tables.of_short_avatars()
    for name in results_tables.PAGES:
        page = (ROOT / name).read_text(encoding="utf-8")
        assert results_tables.filled(page, texts, name) == page, f"{name} differs from the rows in data/results"


def test_a_page_is_filled_from_rows_and_nothing_else_of_it_changes(rows, tmp_path, monkeypatch, capsys):
    save_rows(rows[rows["method"] == "vanilla"], tmp_path / "rows.npz")
    monkeypatch.setenv("RAF_ROOT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    for name in results_tables.PAGES:
        (tmp_path / name).write_text("before\n<!-- rows: table2 -->\nold\n<!-- end of rows: table2 -->\nafter\n")
    rows_file = ["--rows", str(tmp_path / "rows.npz")]
    assert results_tables.main(rows_file) == 1 and "out of date: notebooks/RESULTS.md" in capsys.readouterr().out
    assert results_tables.main([*rows_file, "--write"]) == 0 and results_tables.main(rows_file) == 0
    page = (tmp_path / results_tables.PAGES[0]).read_text()
    (tables,) = report.paper_tables(load_rows(tmp_path / "rows.npz"))
    assert page.startswith("before\n<!-- rows: table2 -->\n\n| method |") and page.endswith("table2 -->\nafter\n")
    assert report.markdown(tables.sheets[0]) in page
    assert results_tables.main(["--write"]) == 0
    assert results_tables.NOTHING in (tmp_path / results_tables.PAGES[0]).read_text()
    (tmp_path / results_tables.PAGES[0]).write_text("<!-- rows: table2 -->\nold\n")
    assert results_tables.main([]) == 1 and "lacks its end" in capsys.readouterr().err
    (tmp_path / results_tables.PAGES[0]).write_text("<!-- rows: table9 -->\n<!-- end of rows: table9 -->")
    assert results_tables.main([]) == 1 and "no table is called table9" in capsys.readouterr().err


def test_what_the_verdict_repeats_by_hand_stands_in_the_results():
    """Every interval of VERDICT.md outside the made table is one of RESULTS.md."""
    page = results_tables.BLOCK.sub("", (ROOT / "notebooks" / "VERDICT.md").read_text())
    results = (ROOT / "notebooks" / "RESULTS.md").read_text()
    intervals = re.findall(r"\[[−+]?\d[\d.]*, [−+]?\d[\d.]*\]", page)
    assert len(intervals) > 8 and not [interval for interval in intervals if interval not in results]


def test_all_tables_are_written_from_a_file_of_rows(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAF_RUNS", str(tmp_path / "runs"))
    save_rows(rows[(rows["subject"] == "422") & (rows["seed"] == 0)], tmp_path / "rows.npz")
    assert figures.main(["--rows", str(tmp_path / "rows.npz"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "figure of 422 left out: no trained avatar of seed 0: vanilla, noise-0.08, raf" in told
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"table2_profile-tiny.tex", "table3_profile-tiny.csv", "claims_profile-tiny.md", "verdict.md"} <= names
    assert "differences.png" in names and len(names) == 9 * 3 + 1
    monkeypatch.setenv("RAF_ROOT", str(tmp_path))
    assert figures.main(["--out", str(tmp_path / "out")]) == 1
    assert "no rows ship in data/results yet" in capsys.readouterr().err

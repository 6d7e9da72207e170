"""Does what the five subjects showed hold for other people? Avatars of people whom nobody has looked at before.

    python scripts/new_people.py --subjects N01 N02 N03 --steps 2500 --workers 2

The five subjects of the paper were looked at while methods were compared, and five are few: intervals for new people
are wide. Here each of more people gets an avatar of every method, trained shortly and measured on few frames
(`raflib.lab.short_avatars`). A program that was stopped goes on where it was. It writes `new_people.npz` (all rows),
tables of differences, `by_subject.csv`, `when_it_helps.csv`, `rise_with_distance.csv`, `new_people.png` (gains by
subject) and `when_it_helps.png` into runs/new_people. With `--rows FILE` it trains nothing and reads such a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import when_it_helps

from raflib import report
from raflib.lab.outside import with_outside
from raflib.lab.recordings import Recordings
from raflib.lab.short_avatars import ShortAvatar, drives_of, setting, with_labels
from raflib.lab.short_study import run_study, study_parser
from raflib.report.grid_tables import difference_sheets
from raflib.runs import atomic_write

STUDY = "new_people"
LABELS = ("vanilla", "raf", "noise-matched", "vanilla-fitted")
"""What is compared (`raflib.lab.cells.METHODS`): a method, or an avatar that is driven through a map."""
PARTS = {"self": "held-out FREE", "cross": "cross-driving"}
BASELINES = ("vanilla", "raf")


def planned(
    subjects: Sequence[str], seeds: Sequence[int], profile: str, steps: int, together: int = 1
) -> list[ShortAvatar]:
    """All avatars. What differs only in the driving map shares an avatar.

    `together` people take turns, so that as many processes film different people. Then come the next ones.
    """
    return [
        ShortAvatar(subject, method, seed, profile, steps, drives=maps)
        for seed in seeds
        for start in range(0, len(subjects), together)
        for method, maps in drives_of(LABELS).items()
        for subject in subjects[start : start + together]
    ]


def gathered(done: Sequence[ShortAvatar]) -> pd.DataFrame:
    """Rows of all finished avatars with their label; those of cross-driving with the distance `OUTSIDE`, too."""
    rows = pd.concat([one.rows() for one in done], ignore_index=True)
    rows = with_labels(rows, LABELS).assign(part=rows["protocol"].map(PARTS))
    recordings = Recordings(profile=done[0].profile)
    placed = with_outside(rows, cache(recordings.open), cache(recordings.driver))
    return pd.concat([rows[rows["protocol"] == "self"], placed], ignore_index=True)


def compared(rows: pd.DataFrame) -> tuple[list[report.Sheet], pd.DataFrame]:
    """Paired differences to each of `BASELINES` in both protocols, as sheets, and those to vanilla as a table."""
    frames = rows.groupby(["protocol", "driver"])["frame"].nunique().groupby("protocol").max()
    about = (
        f"{setting(rows)}; {frames.get('cross', 0)} frames of each driver from one camera, {frames.get('self', 0)} of "
        "the subject's FREE from three."
    )
    sheets, told = difference_sheets(rows, BASELINES[0], about)
    return [*sheets, *(sheet for name in BASELINES[1:] for sheet in difference_sheets(rows, name, about)[0])], told


def tell(rows: pd.DataFrame, out: Path) -> None:
    """Write and print everything that follows from the rows."""
    sheets, told = compared(rows)
    for sheet in sheets:
        report.write_sheet(sheet, out)
        print(report.markdown(sheet))
    placed = rows[rows["protocol"] == "cross"]
    labels = [label for label in LABELS if label != "vanilla" and label in set(rows["label"])]
    when_it_helps.tell(placed, labels, out)
    by_subject = report.gains_by_subject(placed, labels)
    with atomic_write(out / "by_subject.csv") as path:
        by_subject.to_csv(path, index=False, lineterminator="\n")
    print(f"Gains of each person:\n{by_subject.round(3).to_string(index=False)}")
    first = told.query("protocol == 'cross-driving' and metric.str.startswith('psnr')")
    ends = first[["difference", "low", "high"]].itertuples(False, None)
    names = (name.removesuffix(" − vanilla") for name in first["comparison"])
    report.subject_figure(by_subject, dict(zip(names, ends, strict=True)), out / f"{STUDY}.png")


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    options = study_parser(STUDY, __doc__).parse_args(arguments)

    def wanted(workers: int) -> list[ShortAvatar]:
        return planned(options.subjects, options.seeds, options.profile, options.steps, workers)

    return run_study(STUDY, options, wanted, gathered, tell)


if __name__ == "__main__":
    raise SystemExit(main())

"""Retrieval among real people and among the studio's, at equal numbers of people and frames. No truth is needed.

    python scripts/real_retrieval.py FOLDER [--people FILE] [--frames 48] [--repeats 30]

FOLDER and FILE are those of `real_statistics.py`. The same number of people is chosen at random from the open bank,
again and again. Every person is the subject in turn; half of the others are the bank, and the other half drive. Printed
are, as mean, standard deviation and standard error over the choices: the spread of a person's frames, the mean distance
to the nearest row of another person, and the change of B2T by RAF in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from real_statistics import tracks_by_person
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.coverage import b2t, training_sets
from raflib.coverage.identity import within
from raflib.lab.banks import open_bank

People = Mapping[str, Float[np.ndarray, "_ d"]]
SENTENCES = "SEN"
"""Beginning of the names of the studio's sequences of speech."""


def chosen_rows(people: People, frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random frames of each person, under new names in a random order, so that halves differ between calls."""
    order = rng.permutation(sorted(people))
    rows = [people[name] for name in order]
    return {
        f"{i:03d}": one[np.sort(rng.permutation(len(one))[:frames])].astype(np.float32) for i, one in enumerate(rows)
    }


def studio_people(bank: ExpressionBank, count: int, frames: int, speech: float, rng: np.random.Generator) -> People:
    """Frames of `count` random people of the bank, of which a share `speech` is of sentences."""
    spoken, people = _spoken(bank), {}
    for name in rng.permutation(bank.people)[:count].tolist():
        own = np.asarray(bank.subjects) == name
        parts = (own & spoken, round(speech * frames)), (own & ~spoken, frames - round(speech * frames))
        rows = [rng.permutation(np.flatnonzero(where))[:wanted] for where, wanted in parts]
        people[name] = bank.features[np.concatenate(rows)]
    return people


def without_truth(people: People, subjects: int) -> tuple[float, float]:
    """(mean distance to the nearest row of another person, change of B2T by RAF in percent), `subjects` in turn.

    For B2T a subject stands against every second other person, in the order of names beginning after the subject's. The
    others are the bank. The change is that of the mean over subjects.
    """
    names = sorted(people)
    own = np.repeat(names, [len(people[name]) for name in names])
    bank = ExpressionBank(np.concatenate([people[name] for name in names]), own, own, range(len(own)), "arkit52")
    near = np.mean([bank.search(people[name], exclude=name)[0].mean() for name in names])
    values = []
    for subject in names[:: max(1, len(names) // subjects)]:
        start = names.index(subject)
        turns = [*names[start + 1 :], *names[:start]]
        targets = {name: people[name] for name in turns[1::2]}
        sets = training_sets(people[subject], subject, targets, bank.restrict(subjects=turns[0::2]), repeats=4)
        seen = np.concatenate(sets.drivers)
        values.append([np.mean([b2t(sets.pool[rows], seen) for rows in kind]) for kind in (sets.vanilla, sets.raf)])
    vanilla, raf = np.mean(values, axis=0)
    return float(near), float(100 * (raf / vanilla - 1))


def compared(real: People, bank: ExpressionBank, frames: int, repeats: int, seed: int = 0) -> pd.DataFrame:
    """One row for each choice and kind of people: `people`, `spread`, `nearest`, `b2t`.

    Of the studio, kinds are frames of all sequences, of sentences alone, and of the share of sentences whose spread is
    nearest to that of the real people.
    """
    wanted = within(list(chosen_rows(real, frames, np.random.default_rng(seed)).values()))
    shares = {
        "all sequences": sentences_in(bank),
        "sentences": 1.0,
        "as varied": as_varied(bank, wanted, len(real), frames),
    }
    records = []
    for repeat in tqdm(range(repeats), "choices"):
        rng = np.random.default_rng([seed, repeat])
        groups = {"real people": real}
        for name, share in shares.items():
            groups[f"bank, {name} ({share:.0%} sentences)"] = studio_people(bank, len(real), frames, share, rng)
        for name, people in groups.items():
            rows = chosen_rows(people, frames, rng)
            nearest, change = without_truth(rows, len(rows))
            records.append({"people": name, "spread": within(list(rows.values())), "nearest": nearest, "b2t": change})
    return pd.DataFrame(records)


def sentences_in(bank: ExpressionBank) -> float:
    """Share of the bank's rows that are of sentences."""
    return float(_spoken(bank).mean())


def _spoken(bank: ExpressionBank) -> np.ndarray:
    names, place = np.unique(np.asarray(bank.sequence).astype(str), return_inverse=True)
    return np.char.startswith(names, SENTENCES)[place]


def as_varied(bank: ExpressionBank, spread: float, count: int, frames: int) -> float:
    """The share of sentences, in steps of 0.1, with which the studio's people have this spread within a person."""
    shares = np.linspace(0, 1, 11)

    def miss(share: float) -> float:
        rng = np.random.default_rng(0)
        found = [within(list(studio_people(bank, count, frames, share, rng).values())) for _ in range(2)]
        return abs(float(np.mean(found)) - spread)

    return float(min(shares, key=miss))


def main() -> None:
    """Command line: see --help."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=Path, help="which clips show one person")
    parser.add_argument("--frames", type=int, default=48, help="frames of each person; the bank has 48 of sentences")
    parser.add_argument("--repeats", type=int, default=30, help="random choices")
    chosen = parser.parse_args()
    real = {name: features for name, (features, _) in tracks_by_person(chosen.folder, chosen.people).items()}
    table = compared(real, open_bank(), chosen.frames, chosen.repeats)
    summary = table.groupby("people", sort=False).agg(["mean", "std", "sem"])
    print(f"{len(real)} people, {chosen.frames} frames of each, {chosen.repeats} choices")
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()

"""The banks of the paper's ablation (§5, table 3, and the small bank of its user study), by name.

    half1   half of the people, sampled at random: fewer people, the same variety
    half2   half of the people, from one side of expression space: fewer people, and less variety
    small   all people, with a few frames each: the same people, fewer rows

The paper says of its two half banks only that they hold about half of the identities and that one spans expressions
better than the other. The rules here are ours; the `provenance` of a variant repeats its rule. The third ablation,
top-5, is not a bank but `RAF(bank, top_k=5)`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from raflib.bank import ExpressionBank
from raflib.bank.header import HEADER
from raflib.coverage import pca
from raflib.errors import RafError
from raflib.reading.names import content_hash, file_name, short_name
from raflib.runs import data_root
from raflib.sampler import SAMPLERS

SHIPPED = "bank_open.npz"
"""The bank that ships with the project, in all of its feature spaces."""
FEW = 10
"""Frames of each person in the bank `small`; the bank that ships has 200."""
VARIANTS = {
    "half1": "half of the people, drawn at random",
    "half2": "half of the people, those whose mean expression lies farthest along the first principal component of "
    "the persons' means (its largest entry positive)",
    "small": f"everybody, {FEW} random frames each",
}
"""Rule of each variant, by name. It is part of the variant's provenance, and so of its checksum."""


def bank_variant(bank: ExpressionBank, name: str, seed: int = 0) -> ExpressionBank:
    """The part of `bank` called `name` in `VARIANTS`, rows in their order.

    Half of an odd number of people is rounded up. `seed` chooses the people of half1 and the frames of small. A
    person's frames depend on `seed` and the person's name only, and a person with at most `FEW` frames keeps all.
    `provenance` gains `variant`, `rule`, `seed` and `variant_of`, the start of the whole bank's checksum. Raises
    RafError for an unknown name and for half of a single person.
    """
    if name not in VARIANTS:
        raise RafError(f"bank variant {name!r} is not known; choose one of {', '.join(VARIANTS)}")
    if name != "small" and len(bank.people) < 2:
        raise RafError(f"{name}: the bank holds {len(bank.people)} person, expected at least 2 to take half of")
    if name == "small":
        rows = np.concatenate([_few(bank, person, seed) for person in bank.people])
    else:
        order = np.random.default_rng(seed).permutation(len(bank.people)) if name == "half1" else _along(bank)
        chosen = np.array(bank.people)[order[: -(-len(order) // 2)]]
        rows = np.flatnonzero(np.isin(bank.subjects, chosen))
    part = bank.restrict(rows=np.sort(rows))
    told = {"variant": name, "rule": VARIANTS[name], "seed": str(seed), "variant_of": bank.checksum[:16]}
    return replace(part, provenance={**bank.provenance, **told})


def open_bank(name_or_path: str | Path = "", space: str = "arkit52") -> ExpressionBank:
    """The bank that ships (""), its variant of that name (see `VARIANTS`), or the bank saved in a file or folder.

    Its `features` are those of `space` where its rows have them; the others become its `spaces`. A variant holds the
    same rows in every space. A saved bank without `space` is returned as it is. Raises RafError for a name that is none
    of these, for a space that the bank that ships does not have, and for a damaged file.
    """
    ships = str(name_or_path) in ("", *VARIANTS)
    bank = ExpressionBank.load(data_root() / SHIPPED if ships else _stored(name_or_path))
    known = space in (bank.feature_space, *bank.spaces)
    if ships and not known:
        raise RafError(
            f"no bank of the feature space {space} ships with the project; give the path of one as parameter bank "
            "(ExpressionBank.build makes it from captures of this space), or leave features empty"
        )
    if ships and name_or_path:
        bank = bank_variant(bank, str(name_or_path))
    return bank.in_space(space) if known else bank


def bank_suffix(name_or_path: str | Path = "", method: str = "raf", top_k: int = 1) -> str:
    """The end of a result folder's name, so that results of different banks do not overwrite each other.

    It is "" for the bank that ships and for a method without a bank, "_half1" for a variant, and the name and the start
    of the sha256 for a file. Then "_top5" or the like follows for a `top_k` above 1 of a method that has it. Raises
    RafError as `open_bank` does, but does not read the bank.
    """
    several = f"_top{top_k}" if top_k > 1 and "top_k" in SAMPLERS[method].options() else ""
    if not str(name_or_path) or not SAMPLERS[method].needs_bank():
        return several
    if str(name_or_path) in VARIANTS:
        return f"_{name_or_path}{several}"
    path = _stored(name_or_path)
    if path.is_dir():  # the header tells what is in the other files
        return f"_{short_name(path.stem)}-{content_hash(path / HEADER)[:8]}{several}"
    return f"_{file_name(path)}{several}"


def _stored(name_or_path: str | Path) -> Path:
    """The path of a saved bank; RafError where there is none."""
    path = Path(name_or_path)
    if not (os.path.isfile(path) or os.path.isfile(path / HEADER)):
        raise RafError(
            f"bank {str(name_or_path)!r} is neither a variant ({', '.join(VARIANTS)}) nor a file or folder of a bank "
            f"(looked for {path.absolute()}); leave it empty for the bank that ships, or correct the path"
        )
    return path


def _few(bank: ExpressionBank, person: str, seed: int) -> Int[np.ndarray, " R"]:
    """`FEW` random rows of one person."""
    rows = np.flatnonzero(bank.subjects == person)
    return np.random.default_rng([seed, *person.encode()]).permutation(rows)[:FEW]


def _along(bank: ExpressionBank) -> Int[np.ndarray, " P"]:
    """Indices of people along the first principal component of their means, largest first; equal ones by name."""
    means = np.stack([bank.features[bank.subjects == person].mean(0, dtype=np.float64) for person in bank.people])
    return np.argsort(-pca(means, 1).project(means)[:, 0], kind="stable")

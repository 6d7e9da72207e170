"""Banks beyond one disk or one machine: folders of different people, built and searched side by side with Dask.

    build_shards("bank", groups, build)                           groups of people; build(person) gives their bank
    distances, rows = sharded_search(folders, queries, k=5, exclude="422", client=client)
    shard, row = locate(folders, rows)

A shard is a folder of `write_mapped`; no person is in two shards. The answer is that of one bank of all rows, with the
shards one after the other: row numbers continue from shard to shard, and equal distances are ordered by row. Tasks
receive paths, so workers on other machines need the folders under the same paths. Without a `client`, Dask's default
scheduler runs the tasks (threads, unless `dask.config.set(scheduler=...)` says otherwise).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from raflib.bank import exact
from raflib.bank.bank import ExpressionBank, MappedBank, write_mapped
from raflib.bank.columns import check_space
from raflib.errors import RafError, numbers

if TYPE_CHECKING:
    from distributed import Client


def build_shards(
    root: str | Path,
    groups: Iterable[Sequence[str]],
    build: Callable[[str], ExpressionBank],
    client: Client | None = None,
) -> list[Path]:
    """Build one shard for each group of people, as folders of `root`, and return their paths in order.

    `build(person)` gives that person's bank, for instance
    `lambda person: ExpressionBank.build([open_capture("studio", person)])`; it runs where Dask runs the task. An
    existing shard is kept if it was built for the same group, so an interrupted build continues. Raises RafError for a
    person in two groups, an empty group, a shard of other people, and whatever `build` raises.
    """
    groups = [list(group) for group in groups]
    everybody = [person for group in groups for person in group]
    if not groups or not all(groups):
        raise RafError(f"{root}: a group without people; give each shard at least one person")
    if len(set(everybody)) < len(everybody):
        twice = next(person for person in everybody if everybody.count(person) > 1)
        raise RafError(f"{root}: {twice!r} is in two groups; people of different shards must differ")
    folders = [Path(root) / f"shard_{number:05d}" for number in range(len(groups))]
    _run(_build_shard, list(zip(folders, groups, strict=True)), (build,), client)
    return folders


def sharded_search(
    folders: Iterable[str | Path],
    queries: Float[np.ndarray, "Q d"],
    k: SupportsIndex = 1,
    exclude: str | Iterable[str] | None = None,
    client: Client | None = None,
    feature_space: str | None = None,
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """(distances, rows) as `ExpressionBank.search` gives them for one bank of all the shards' rows.

    Raises RafError as `search` does, and for no shard, shards of different feature spaces or a person in two of them.
    """
    banks = _open(folders)
    queries = banks[0]._checked_queries(queries, feature_space)
    k = exact.check_k(k)
    exclude = exclude if exclude is None or isinstance(exclude, str) else list(exclude)
    for subject, _ in exact.groups(exclude, len(queries)):
        own = 0 if subject is None else sum(bank._rows.get(subject, 0) for bank in banks)
        exact.check_enough(k, sum(map(len, banks)) - own, subject)
    found = _run(_search_shard, [bank.folder for bank in banks], (queries, k, exclude), client)
    starts = _starts(banks)
    squared = np.concatenate([part[0] for part in found], axis=1)
    rows = np.concatenate([part[1] + start for part, start in zip(found, starts[:-1], strict=True)], axis=1)
    squared, rows = exact.rank(squared, rows, k)
    return np.sqrt(squared), rows


def locate(folders: Iterable[str | Path], rows: Int[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """(shard, row in that shard) for rows that `sharded_search` returned."""
    starts, rows = _starts(_open(folders)), numbers("locate: rows", rows, "iu")
    if rows.size and not (rows.min() >= 0 and rows.max() < starts[-1]):
        raise RafError(f"locate: rows from {rows.min()} to {rows.max()}, expected 0 to {starts[-1] - 1}")
    shard = np.searchsorted(starts, rows, side="right") - 1
    return shard, rows - starts[shard]


def _open(folders: Iterable[str | Path]) -> list[MappedBank]:
    """Open all shards; RafError for different feature spaces or a person in two shards."""
    banks = [MappedBank(folder) for folder in folders]
    if not banks:
        raise RafError("sharded search: no folder was given; expected at least one shard")
    known: dict[str, Path] = {}
    for bank in banks:
        check_space(banks[0]._space, bank._space, f"{bank.folder}")
        if both := sorted(known.keys() & bank._rows.keys()):
            raise RafError(f"{bank.folder}: subject {both[0]!r} is in {known[both[0]]} too; give each person one shard")
        known |= dict.fromkeys(bank._rows, bank.folder)
    return banks


def _starts(banks: list[MappedBank]) -> Int[np.ndarray, " shards"]:
    """The number of each shard's first row, and the number of all rows at the end."""
    return np.cumsum([0, *map(len, banks)])


def _run(task: Callable, jobs: Sequence[object], shared: tuple, client: Client | None) -> list:
    """Results of `task(job, *shared)` for each job, run with Dask, in order; `shared` is sent once."""
    import dask

    def as_it_is(value: object) -> object:  # Dask would look for tasks inside lists
        return dask.delayed(value, pure=False, traverse=False)

    common = as_it_is(shared)
    lazy = [dask.delayed(_call, pure=False)(task, as_it_is(job), common) for job in jobs]
    return list(dask.compute(*lazy) if client is None else client.gather(client.compute(lazy)))


def _call(task: Callable, job: object, shared: tuple) -> object:
    return task(job, *shared)


def _build_shard(job: tuple[Path, list[str]], build: Callable[[str], ExpressionBank]) -> None:
    """Build the shard of one group unless it exists."""
    folder, group = job
    key = hashlib.sha256(json.dumps(group).encode()).hexdigest()[:16]
    if folder.exists():
        if MappedBank(folder).provenance.get("group") != key:
            raise RafError(f"{folder}: was built for other people; delete it or choose another folder")
        return
    write_mapped(folder, map(build, group), {"group": key, "people": len(group)})


def _search_shard(folder: Path, queries: np.ndarray, k: int, exclude: str | list[str] | None) -> tuple:
    """(squared distances, rows) [Q,k] of one shard; infinite where it has fewer than k rows of other people."""
    table = MappedBank(folder)._table
    squared, rows = np.full((len(queries), k), np.inf), np.zeros((len(queries), k), np.int64)
    for subject, members in exact.groups(exclude, len(queries)):
        width = min(k, exact.available(table.without(subject)))
        if width:
            squared[members, :width], rows[members, :width] = exact.search(table, queries[members], width, subject)
    return squared, rows

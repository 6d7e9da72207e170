"""Runs compiled kernels on several threads, without OpenMP.

The kernels release Python's global lock, so plain Python threads run them side by side. That leaves torch's OpenMP
pool alone (two pools would fight for the cores, and a forked child may not use OpenMP at all) and needs no
parallel compilation. How many threads is numba's own setting (`numba.set_num_threads`, `NUMBA_NUM_THREADS`).
Kernels write to places that depend on their part only, so the number of threads changes nothing but the time.
"""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numba

_pool: ThreadPoolExecutor | None = None


def thread_count() -> int:
    """How many threads the renderer uses: `numba.get_num_threads()`."""
    return numba.get_num_threads()


def run(kernel, parts: list[tuple], *arguments) -> None:
    """Call `kernel(*part, *arguments)` for every part; the calling thread works along. Returns when all are done."""
    workers = min(thread_count(), len(parts))
    if workers <= 1:
        for part in parts:
            kernel(*part, *arguments)
        return
    turn = itertools.count()  # next() on it is atomic: each part is taken once

    def work():
        while (k := next(turn)) < len(parts):
            kernel(*parts[k], *arguments)

    helpers = [_helpers().submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            helper.result()


def blocks(length: int, size: int) -> list[tuple[int, int]]:
    """[0, length) cut into (first, last) blocks of `size`; independent of the number of threads."""
    return [(first, min(first + size, length)) for first in range(0, length, size)]


def _helpers() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=numba.config.NUMBA_NUM_THREADS, thread_name_prefix="render")
    return _pool


def _forget_pool() -> None:
    """A forked child has none of its parent's threads: it must start its own."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)

"""Threads and interrupts of a long computation: how many threads it uses, and how it stops between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import torch


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """torch and numba on `count` threads inside the block (as many as there are, at most)."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


@contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """What the block samples from torch's own generators, or seeds, does not change the caller's random numbers."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """An event that the first interrupt sets (Ctrl-C, a notebook's stop button); the second raises KeyboardInterrupt.

    Only the main thread can be told of interrupts; elsewhere, and where they are ignored, nothing changes.
    """
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield asked
        return

    def ask(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)

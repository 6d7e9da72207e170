"""A thread that works on the newest item only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """A thread with a mailbox for one item: a new item replaces one that still waits there.

    So the work never falls behind, however long an item takes: items that come in between are skipped.

    Attributes:
        done: how many items were worked on.
        skipped: how many were replaced before their turn.

    Args:
        work: what to do with an item.
        failed: is called with an exception of `work`; the thread goes on.
        name: of the thread.
    """

    def __init__(self, work: Callable[[T], None], failed: Callable[[Exception], None], name: str):
        self.done = self.skipped = 0
        self._work, self._failed = work, failed
        self._box: list[T] = []
        self._busy = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, item: T) -> None:
        """Ask for this item's turn in place of one that waits. After `close`, nothing happens."""
        with self._changed:
            self.skipped += len(self._box)
            self._box = [item]
            self._changed.notify_all()

    def wait(self, seconds: float | int) -> bool:
        """Wait until there is nothing to do, at most this long; whether that was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or not (self._box or self._busy), seconds)

    def close(self) -> None:
        """End the thread after the item that it works on; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or self._box)
                if self._closed:
                    return
                item, self._busy = self._box.pop(), True
            try:
                self._work(item)
            except Exception as error:
                self._failed(error)
            self.done += 1


class Pace:
    """Holds a sender back while `most` of its messages are unanswered, so that they never queue on a slow connection.

    Nothing is held back before the first answer, since nobody may be there to answer, and never longer than `patience`
    seconds: a receiver that has gone away must not stop the sender.
    """

    def __init__(self, most: int = 2, patience: float | int = 1.0):
        self._most, self._patience = most, patience
        self._answered: int | None = None
        self._changed = threading.Condition()

    def answer(self, number: int) -> None:
        """Message `number` has arrived."""
        with self._changed:
            self._answered = max(number, self._answered or 0)
            self._changed.notify_all()

    def wait(self, number: int) -> float:
        """Wait until message `number` may be sent; how many seconds that took."""
        begin = time.monotonic()
        with self._changed:
            if self._answered is not None and not self._changed.wait_for(
                lambda: number - (self._answered or 0) <= self._most, self._patience
            ):
                self._answered = None
        return time.monotonic() - begin

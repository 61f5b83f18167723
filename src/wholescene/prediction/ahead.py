"""Running an iterator on a thread of its own, a little ahead of whoever takes its items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

__all__ = ["Ahead", "StoppedError"]

Item = TypeVar("Item")


class StoppedError(Exception):
    """The items are no longer wanted; ends the iterator that makes them."""


class Ahead(Generic[Item]):
    """Makes the next item while the last one is being used.

    An error of the iterator is raised where its items are taken. Leaving the ``with`` block ends
    the thread once the item under way is made, or at its next ``check``.

    Args:
        items: What is run; it may hold resources of its thread only.
        waiting: Items that may wait, made, besides the one being made and the one being used.
    """

    def __init__(self, items: Iterator[Item], *, waiting: int = 0) -> None:
        self._items = items
        self._waiting = waiting
        self._made: deque[Item] = deque()
        self._given = self._asked = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._made.clear()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
            while not self._made and not self._ended:
                self._changed.wait()
            if self._made:
                return self._made.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def check(self) -> None:
        """For the iterator: end it if nobody waits for its items any more."""
        if self._stopped:
            raise StoppedError

    def await_use(self) -> None:
        """For the iterator: wait until every item so far was used up, as the next is asked for."""
        with self._changed:
            while self._asked <= self._given and not self._stopped:
                self._changed.wait()
        self.check()

    def _run(self) -> None:
        try:
            while self._may_go_on():
                item = next(self._items)
                with self._changed:
                    self._made.append(item)
                    self._given += 1
                    self._changed.notify_all()
        except (StopIteration, StoppedError):
            pass
        except BaseException as error:  # handed to the thread that waits
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _may_go_on(self) -> bool:
        with self._changed:
            while self._given > self._asked + self._waiting and not self._stopped:
                self._changed.wait()
            return not self._stopped

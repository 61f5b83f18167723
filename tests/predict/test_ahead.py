"""Items are made on a thread while the last ones are used, and never more than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from wholescene.prediction.ahead import Ahead


def until(condition: threading.Event | None = None, seconds: float = 0.05) -> None:
    """Wait for an event, or long enough that a thread would have gone on if it could."""
    if condition is None:
        time.sleep(seconds)
    else:
        assert condition.wait(10)


def test_items_come_in_order_and_end() -> None:
    with Ahead(iter(range(100))) as ahead:
        assert list(ahead) == list(range(100))
        assert list(ahead) == []


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_no_more_are_made_than_may_wait(waiting: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    with Ahead(items(), waiting=waiting) as ahead:
        for number in ahead:
            until()
            # The one in use, the one made meanwhile, those that wait.
            assert len(made) == min(20, number + 2 + waiting)


def test_the_next_item_is_made_while_one_is_used() -> None:
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        begun.set()
        yield 1

    with Ahead(items()) as ahead:
        next(ahead)
        until(begun)


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    with Ahead(items()) as ahead:
        assert next(ahead) == 0
        with pytest.raises(OSError, match="gone"):
            next(ahead)
        with pytest.raises(OSError, match="gone"):
            next(ahead)


def test_leaving_ends_the_thread_at_its_next_check() -> None:
    rounds = 0

    def items() -> Iterator[int]:
        nonlocal rounds
        yield 0
        while True:
            rounds += 1
            ahead.check()
            time.sleep(0.001)

    ahead = Ahead(items())
    with ahead:
        next(ahead)
    seen = rounds
    until()
    assert rounds == seen


def test_waiting_for_use_ends_when_the_next_item_is_asked_for() -> None:
    used: list[int] = []
    seen: list[list[int]] = []

    def items() -> Iterator[int]:
        yield 0
        ahead.await_use()
        seen.append(list(used))
        yield 1

    ahead = Ahead(items())
    with ahead:
        for number in ahead:
            until()
            used.append(number)
    assert seen == [[0]]


def test_waiting_for_use_ends_when_nothing_is_wanted_any_more() -> None:
    def items() -> Iterator[int]:
        yield 0
        ahead.await_use()
        raise AssertionError("went on")

    ahead = Ahead(items())
    with ahead:
        next(ahead)
        until()

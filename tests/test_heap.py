"""Free memory is kept for the next piece of work, and what gaps add is given back."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from wholescene import heap
from wholescene.spatial import Streamer


class Library:
    """Stands for glibc; counts what it is asked for."""

    def __init__(self) -> None:
        self.trims = 0
        self.settings: dict[int, int] = {}

    def malloc_trim(self, pad: int) -> None:
        assert pad == 0
        self.trims += 1

    def mallopt(self, name: int, number: int) -> None:
        self.settings[name] = number

    def malloc(self, size: int) -> int:
        return size

    def free(self, block: int) -> None:
        pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(heap, "_glibc", lambda: found)
    monkeypatch.setattr(heap, "_users", [])  # another test may keep the heap for its process
    return found


def test_memory_is_given_back_when_gaps_add_an_eighth(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, trims, mib = heap.HeapWatch(), [], 1 << 20
    monkeypatch.setattr(heap, "free_bytes", lambda: 800 * mib)
    with heap.steady_heap():
        for resident in (1000, 1050, 1100, 1101, 900, 1100, 1500):
            monkeypatch.setattr(heap, "resident_bytes", lambda resident=resident: resident * mib)
            watch.work_ended()
            trims.append(library.trims)
    assert trims == [0, 0, 0, 1, 1, 1, 2]


def test_a_heap_that_is_not_kept_is_left_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = heap.HeapWatch()
    for resident in (1, 1 << 40):
        monkeypatch.setattr(heap, "resident_bytes", lambda resident=resident: resident)
        watch.work_ended()
    assert library.trims == 0


def test_the_last_user_leaves_the_heap_as_it_was(library: Library) -> None:
    with heap.steady_heap():
        steady = dict(library.settings)
        with pytest.raises(KeyboardInterrupt), heap.steady_heap():
            raise KeyboardInterrupt
        assert library.settings == steady
        assert library.trims == 0
    assert library.settings != steady
    assert library.settings.keys() == steady.keys()
    assert library.trims == 1


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with heap.steady_heap():
        heap.HeapWatch().work_ended()
        heap.tidy_heap(0)
    assert heap.free_bytes() == 0


def test_freed_memory_is_counted() -> None:
    if heap._glibc() is None:
        pytest.skip("the C library is not glibc of 2.33 or later")
    with heap.steady_heap():
        large = torch.ones(1 << 22)
        before = heap.free_bytes()
        del large
        assert heap.free_bytes() - before >= 1 << 24
        assert heap.resident_bytes() > 1 << 24


def test_a_streamer_gives_back_what_tracing_left() -> None:
    if heap._glibc() is None:
        pytest.skip("the C library is not glibc of 2.33 or later")
    module, shape = torch.nn.Conv2d(3, 1, 1).eval(), (1, 3, 64, 64)
    with heap.steady_heap():
        Streamer(module, shape)  # what is imported for it stays
        left_over = torch.ones(1 << 26)
        before = heap.resident_bytes()
        del left_over
        Streamer(module, shape)
        assert before - heap.resident_bytes() > 1 << 27


BLOCKS = """
from wholescene import heap

def touched(size):
    return bytearray(b"x") * size

with heap.{kind}():
    blocks = [touched(4 << 20) for _ in range(32)]
    full = heap.resident_bytes()
    del blocks[::2]  # between others that stay
    print(full - heap.resident_bytes() >> 20)
"""


def test_a_lean_heap_holds_no_free_blocks() -> None:
    if heap._glibc() is None:
        pytest.skip("the C library is not glibc of 2.33 or later")
    given_back = {}
    for kind in ("lean_heap", "steady_heap"):  # in processes without gaps from other tests
        command = [sys.executable, "-c", BLOCKS.format(kind=kind)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        given_back[kind] = int(done.stdout)
    assert given_back["steady_heap"] < 8
    assert given_back["lean_heap"] > 60


def test_the_innermost_heap_holds_until_it_is_left(library: Library) -> None:
    with heap.steady_heap():
        steady = dict(library.settings)
        outer, inner = heap.lean_heap(), heap.steady_heap()
        outer.__enter__()
        lean = dict(library.settings)
        inner.__enter__()
        assert library.settings == steady
        outer.__exit__(None, None, None)  # generators may end in any order
        assert library.settings == steady
        inner.__exit__(None, None, None)
        with heap.lean_heap():
            assert library.settings == lean
        assert library.settings == steady
    assert library.settings not in (steady, lean)

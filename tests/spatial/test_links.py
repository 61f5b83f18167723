"""Messages between ranks arrive whole and in order, whatever their size, or an error does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import together
from torch import Tensor

from wholescene.errors import RankError
from wholescene.spatial import links, wire
from wholescene.spatial.links import Links
from wholescene.spatial.wire import SMALL_BYTES, Wire

SIZES = (3, 0, 2_000_000, 1)
"""Numbers in a message: socket buffers hold a tenth of the third."""


@pytest.fixture
def pair() -> Iterator[tuple[Links, Links, socket.socket]]:
    """Ranks 0 and 1 in one process, and the socket of rank 1."""
    first, second = socket.socketpair()
    with first, second:
        yield Links({1: first}), Links({0: second}), second


def numbered(sender: int, taker: int, number: int, size: int) -> Tensor:
    kind = (torch.float32, torch.bfloat16, torch.float64, torch.int64)[number]
    return (torch.arange(size) % 97 + 100 * sender + 10 * taker).to(kind)


def trade(group: dist.ProcessGroup) -> dict[str, bool]:
    """Send everybody four messages of different types and sizes, in as many exchanges at once."""
    wire = Wire(group)
    others = [peer for peer in range(wire.size) if peer != wire.rank]
    waits: list[Any] = []
    for number, size in enumerate(SIZES):
        sent = [(peer, numbered(wire.rank, peer, number, size)) for peer in others]
        shapes = [(peer, (size,)) for peer in others]
        waits.append(wire.begin_swap(sent, shapes, sent[0][1]))
    found = [wait() for wait in reversed(waits)][::-1]
    right = [
        torch.equal(tensor, numbered(peer, wire.rank, number, SIZES[number]))
        for number, tensors in enumerate(found)
        for peer, tensor in zip(others, tensors, strict=True)
    ]
    return {"has links": wire._links is not None, "is right": all(right)}


@pytest.mark.parametrize("ranks", [2, 3])
def test_messages_arrive_whole_and_in_order(ranks: int) -> None:
    assert together(ranks, trade) == [{"has links": True, "is right": True}] * ranks


def trade_apart(group: dist.ProcessGroup) -> dict[str, bool]:
    """As if the last rank were on another host."""
    kept = wire.links_of, links._host
    if dist.get_rank(group) == dist.get_world_size(group) - 1:
        links._host = lambda: "elsewhere"
    wire.links_of = links._connect
    try:
        return trade(group)
    finally:
        wire.links_of, links._host = kept


def test_several_hosts_talk_through_gloo() -> None:
    assert together(3, trade_apart) == [{"has links": False, "is right": True}] * 3


def sums(group: dist.ProcessGroup) -> list[Tensor]:
    """A sum that depends on its order, small and large."""
    wire = Wire(group)
    mine = torch.tensor([1e8, 1.0, -1e8][wire.rank])
    return [wire.sum(mine.repeat(size)).unique() for size in (5, SMALL_BYTES)]


def test_sums_are_the_same_on_all_ranks() -> None:
    found = together(3, sums)
    in_order = (torch.tensor([1e8]) + 1.0) - 1e8
    assert all(torch.equal(found_sum, in_order) for of_rank in found for found_sum in of_rank)


def test_a_lost_rank_is_an_error(pair: tuple[Links, Links, socket.socket]) -> None:
    ours, _, theirs = pair
    wait = ours.begin([], [(1, torch.zeros(2))])
    theirs.close()
    with pytest.raises(RuntimeError, match="connection to rank 1 is closed"):
        wait()


def test_a_lost_rank_is_named_to_the_user(pair: tuple[Links, Links, socket.socket]) -> None:
    ours, _, theirs = pair
    alone = Wire(None)
    alone.size, alone._links = 2, ours
    theirs.close()
    with pytest.raises(RankError, match="another rank of this scene is gone"):
        alone.gather(torch.zeros(1))


def test_who_waits_long_leaves_the_processor_alone(
    pair: tuple[Links, Links, socket.socket],
) -> None:
    ours, theirs, _ = pair
    sent, taken = torch.arange(4.0), torch.zeros(4)

    def late() -> None:
        time.sleep(1.0)
        theirs.begin([(0, sent)], [])()

    thread = threading.Thread(target=late)
    thread.start()
    used, since = time.process_time(), time.monotonic()
    ours.begin([], [(1, taken)])()
    thread.join()
    assert time.monotonic() - since > 0.9
    assert time.process_time() - used < 0.3
    assert torch.equal(taken, sent)


def test_paths_that_are_too_long_or_out_of_reach_leave_it_to_gloo(tmp_path: Path) -> None:
    assert links._listen(str(tmp_path / ("long" * 60)), 2) is None
    listener = links._listen(str(tmp_path / "here"), 2)
    assert listener is not None
    with listener:
        assert links._meet(listener, [str(tmp_path / "gone"), "mine"], 1) is None

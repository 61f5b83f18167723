"""Several processes on this machine, each with the environment torchrun would give it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from wholescene.errors import WholesceneError

__all__ = ["Say", "launched", "run_ranks"]

T = TypeVar("T")

Say = Callable[[Any], None]
"""Takes messages."""

POLL_S = 0.1
GRACE_S = 5.0
"""How long the other ranks may take to notice that one has failed."""


@dataclass(frozen=True)
class _Done(Generic[T]):
    result: T


@dataclass(frozen=True)
class _Failed:
    error: WholesceneError


def launched() -> tuple[int, int]:
    """Number of this process among those that torchrun started, and how many they are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def run_ranks(work: Callable[[Say], T], *, num_ranks: int, progress: Say | None) -> T:
    """Run ``work`` in several new processes and wait for them.

    SIGINT and SIGTERM are passed on, so that the ranks stop together after a step; a second
    SIGINT ends them at once.

    Args:
        work: Picklable; called with a function that sends messages to ``progress``.
        num_ranks: Processes to start.
        progress: Receives the messages of rank 0, in this process.

    Returns:
        What ``work`` returned on rank 0.

    Raises:
        WholesceneError: As raised by any rank.
        KeyboardInterrupt: If the ranks were stopped before they could finish a step.
    """
    queue: SimpleQueue[Any] = mp.get_context("spawn").SimpleQueue()
    arguments = (num_ranks, _free_port(), mp.get_start_method(), work, queue)
    context = start_processes(  # type: ignore[no-untyped-call]
        _rank_main, arguments, nprocs=num_ranks, join=False, start_method="spawn"
    )
    outcomes: list[_Done[T] | _Failed] = []
    with _passing_signals(context) as signals:
        try:
            while not context.join(timeout=POLL_S, grace_period=GRACE_S):
                outcomes += _drain(queue, progress)
        except ProcessException:
            outcomes += _drain(queue, progress)
            if signals and not outcomes:
                raise KeyboardInterrupt from None
            if not outcomes:
                raise
        finally:
            _end(context)
    outcomes += _drain(queue, progress)
    for outcome in outcomes:
        if isinstance(outcome, _Failed):
            raise outcome.error
    if not outcomes:
        raise KeyboardInterrupt
    return next(outcome.result for outcome in outcomes if isinstance(outcome, _Done))


def _rank_main(
    rank: int,
    world: int,
    port: int,
    start_method: str,
    work: Callable[[Say], T],
    queue: SimpleQueue[Any],
) -> None:
    """Run in each process."""
    # A spawned process would spawn its data workers too, which takes seconds for each.
    mp.set_start_method(start_method, force=True)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "wholescene",
    }
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
    try:
        result = work(queue.put if rank == 0 else _discard)
    except WholesceneError as error:
        queue.put(_Failed(error))
        raise SystemExit(1) from None
    if rank == 0:
        queue.put(_Done(result))


def _discard(message: object) -> None:
    del message


def _drain(queue: SimpleQueue[Any], progress: Say | None) -> list[Any]:
    """Pass on messages; give back what the ranks ended with."""
    ends = []
    while not queue.empty():
        message = queue.get()
        if isinstance(message, _Done | _Failed):
            ends.append(message)
        elif progress is not None:
            progress(message)
    return ends


@contextmanager
def _passing_signals(context: ProcessContext) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM to the ranks as SIGTERM; yields the signals seen."""
    seen: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and signal.SIGINT in seen:
            raise KeyboardInterrupt
        seen.append(number)
        for process in context.processes:
            if process.is_alive():
                process.terminate()

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, pass_on)
    except ValueError:  # not the main thread: signals go to whoever has it
        pass
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(context: ProcessContext) -> None:
    """Leave no rank behind."""
    for process in context.processes:
        if process.is_alive():
            process.kill()
        process.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

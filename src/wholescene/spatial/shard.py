"""One scene over many ranks: each has some of its rows, all compute the network together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wholescene.errors import InputError, WholesceneError
from wholescene.progress import Progress
from wholescene.spatial.capture import Output, capture, pick
from wholescene.spatial.cuts import Cuts, Route, proportional
from wholescene.spatial.deal import Deal, deal
from wholescene.spatial.exchange import gather_rows
from wholescene.spatial.layout import Layout
from wholescene.spatial.overwrite import overwrite
from wholescene.spatial.plan import prepare, refuse_fallbacks
from wholescene.spatial.schedule import Schedule, simplified
from wholescene.spatial.segments import SegmentBytes, count_bytes
from wholescene.spatial.sharded import ShardedRun
from wholescene.spatial.staging import Staging, assign
from wholescene.spatial.wire import Wire

__all__ = ["Shard", "ShardedOutput", "reduce_gradients", "run_sharded", "segment_bytes"]


@dataclass(frozen=True)
class Shard:
    """This rank's rows of one scene.

    Args:
        local_rows: ``(B, C, h, W)``; ``h`` may be 0.
        start: First of these rows in the scene, from 0; any row.
        height: Rows of the whole scene.
        group: Ranks that share the scene, in the order of their rows; the default group if
            ``None`` and there is one.
    """

    local_rows: Tensor
    start: int
    height: int
    group: dist.ProcessGroup | None = None


@dataclass(frozen=True)
class ShardedOutput:
    """This rank's rows of the result.

    Args:
        local: ``(B, K, h', W')``; where the result has as many rows as the scene, the same rows as
            the shard's.
        start: First of these rows in the result.
        height: Rows of the whole result.
        wire: The ranks.
        cuts: How the rows of the result are dealt out.
    """

    local: Tensor
    start: int
    height: int
    wire: Wire
    cuts: Cuts

    def gather(self, *, partial: bool = False) -> Tensor:
        """The whole result, on every rank; all ranks must call it.

        Args:
            partial: How gradients go back. By default every rank computes the same loss from the
                whole result, as one process would, and it counts once. With ``partial=True``
                each rank's loss is a part, and the parts are summed.
        """
        if self.wire.size == 1:
            return self.local
        *lead, _, width = self.local.shape
        layout = Layout.image((*lead, self.height, width))
        wanted = (((0, self.height),),) * self.wire.size
        route = Route(layout, self.cuts, wanted, (0, width))
        return gather_rows(self.local, route, self.wire, partial=partial)


def run_sharded(
    module: nn.Module,
    shard: Shard,
    *,
    output: Output = None,
    strict: bool = False,
    segments: int = 1,
    progress: Progress | None = None,
) -> ShardedOutput:
    """Run a network over a scene whose rows are on many ranks: the same numbers as on one.

    Every rank of the group calls it with its rows. Rows that an operator needs from neighbours are
    sent layer by layer; sums over the scene (pooling, norms, batch norm in training) are over all
    ranks; global attention is sent all keys and values. Gradients go back the same ways: after
    ``backward()`` on every rank, parameters hold this rank's part (see :func:`reduce_gradients`),
    and ``shard.local_rows.grad`` is complete.

    Args:
        module: Maps ``(B, C, H, W)`` to ``(B, K, H', W')``; in training mode batch norm takes the
            statistics of the scene and moves its running ones alike on all ranks.
        shard: This rank's rows.
        output: Picks from a module that returns a dict, tuple or object.
        strict: Refuse layers without a rule, which every rank would compute whole.
        segments: Activation checkpointing: parts of the network, of about equal memory, that keep
            only their ends for the way back and are computed again there; 1 keeps everything.
            About the square root of its layers takes least memory.
        progress: Called with operators done and in all.

    Raises:
        InputError: If the shards do not make up one scene, or ``segments`` is below 1.
        RankError: If another rank fails.
        UnsupportedError: If the module cannot be traced, or ``strict`` refuses a layer.
    """
    wire = Wire(_group(shard))
    found, trouble = None, None
    try:
        _check(shard, segments)
        found = _network(module, _scene_shape(shard), shard.local_rows.dtype, output, strict=strict)
    except WholesceneError as error:
        trouble = error
    cuts, seed, learns = _meet(shard, trouble, wire, module)
    assert found is not None
    if wire.size == 1 and segments == 1:
        result = pick(module(shard.local_rows), output)
        return ShardedOutput(result, 0, result.shape[2], wire, (0, result.shape[2]))
    dealt = found.dealt(cuts, wire.rank, learns_image=learns)
    local = ShardedRun(dealt, wire, seed, segments, progress)(shard.local_rows)
    _count_batches(module)
    height = found.staging.graph.values[found.staging.graph.output].shape[2]
    ends = proportional(cuts, height)
    return ShardedOutput(local, ends[wire.rank], height, wire, ends)


def segment_bytes(
    module: nn.Module, shape: tuple[int, ...], segments: int, *, output: Output = None
) -> SegmentBytes:
    """Bytes of a network's maps, and what ``segments`` of :func:`run_sharded` keep of them.

    Nothing is computed.

    Args:
        module: As for :func:`run_sharded`.
        shape: Of a scene, or of the rows of one device, (B, C, H, W).
        segments: As for :func:`run_sharded`.
        output: As for :func:`run_sharded`.

    Raises:
        InputError: If ``segments`` is below 1.
        UnsupportedError: If the module cannot be traced.
    """
    _check_segments(segments)
    staging = _live_staging(module, shape, torch.float32, output)
    return count_bytes(deal(staging, (0, shape[2]), 0).tasks, segments)


def reduce_gradients(module: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Sum the gradients of parameters over the ranks of a scene.

    Under data parallelism sum over the rows of each scene first, then average over scenes.

    Args:
        module: Whose ``.grad`` hold each rank's part.
        group: As in the shards.

    Raises:
        RankError: If another rank is gone.
    """
    wire = Wire(group if group is not None else _default_group())
    if wire.size == 1:
        return
    params = [p for p in module.parameters() if p.requires_grad]
    device = params[0].device if params else torch.device("cpu")
    has = wire.sum(torch.tensor([p.grad is not None for p in params], device=device).int())
    wanted = [p for p, any_has in zip(params, has.tolist(), strict=True) if any_has]
    for kind in dict.fromkeys(p.dtype for p in wanted):
        some = [p for p in wanted if p.dtype is kind]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        wire.sum(flat)
        parts = torch.split(flat, [p.numel() for p in some])
        for p, part in zip(some, parts, strict=True):
            p.grad = part.view(p.shape)


@dataclass
class _Network:
    """A traced network and how it was dealt out last.

    Args:
        staging: The network.
        stamp: What it was made from; another stamp makes another network.
    """

    staging: Staging
    stamp: object
    last: tuple[object, Deal] | None = None

    def dealt(self, cuts: Cuts, rank: int, *, learns_image: bool) -> Deal:
        """Deal it out, unless it was dealt out so before."""
        key = (cuts, rank, learns_image)
        if self.last is None or self.last[0] != key:
            self.last = key, deal(self.staging, cuts, rank, learns_image=learns_image)
        return self.last[1]


_NETWORKS: WeakKeyDictionary[nn.Module, dict[bool, _Network]] = WeakKeyDictionary()
"""Per module, the network it learns by and the one it predicts by."""


def _network(
    module: nn.Module,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    output: Output,
    *,
    strict: bool,
) -> _Network:
    """The module's network, traced anew if anything about it has changed."""
    live = module.training or torch.is_grad_enabled()
    stamp = (shape, dtype, output, *_stamp(module, live=live))
    known = _NETWORKS.setdefault(module, {})
    if live not in known or known[live].stamp != stamp:
        staging = (
            _live_staging(module, shape, dtype, output)
            if live
            else prepare(module, shape, dtype=dtype, output=output).staging
        )
        known[live] = _Network(staging, stamp)
    if strict:
        refuse_fallbacks(Schedule(known[live].staging, ()))
    return known[live]


def _stamp(module: nn.Module, *, live: bool) -> list[Any]:
    """What a traced network depends on: modes, and the tensors it has taken over."""
    held = list(module.buffers()) if live else [*module.parameters(), *module.buffers()]
    # Running statistics are read when they are used; other buffers may have been worked in.
    read = {id(b) for m in module.modules() for b in _statistics(m)} if live else set()
    versions = [(id(t), t._version) for t in held if id(t) not in read]
    learnt = [(id(p), p.requires_grad) for p in module.parameters()]
    return [tuple(m.training for m in module.modules()), tuple(versions), tuple(learnt)]


def _statistics(module: nn.Module) -> list[Tensor]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    found = [getattr(module, name, None) for name in names]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _live_staging(
    module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, output: Output
) -> Staging:
    graph = capture(module, shape, dtype=dtype, output=output, live=True)
    return assign(overwrite(simplified(graph)))


def _default_group() -> dist.ProcessGroup | None:
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def _group(shard: Shard) -> dist.ProcessGroup | None:
    return shard.group if shard.group is not None else _default_group()


def _scene_shape(shard: Shard) -> tuple[int, ...]:
    batch, channels, _, width = shard.local_rows.shape
    return batch, channels, shard.height, width


def _check_segments(segments: int) -> None:
    if segments < 1:
        raise InputError(f"segments = {segments} must be 1 or more; 1 keeps everything")


def _check(shard: Shard, segments: int) -> None:
    rows = shard.local_rows
    _check_segments(segments)
    if rows.dim() != 4:
        raise InputError(f"local_rows of shape {tuple(rows.shape)} is not (B, C, h, W)")
    if shard.height < 1 or not 0 <= shard.start <= shard.start + rows.shape[2] <= shard.height:
        raise InputError(
            f"rows {shard.start} to {shard.start + rows.shape[2]} are not inside a scene of "
            f"height={shard.height}"
        )


def _meet(
    shard: Shard, trouble: WholesceneError | None, wire: Wire, module: nn.Module
) -> tuple[Cuts, int, bool]:
    """Tell each other what each has; the cut of the scene, a seed, and whether pixels learn."""
    seed = int(torch.randint(1 << 40, ())) if module.training else 0
    rows = shard.local_rows
    learns = rows.requires_grad and torch.is_grad_enabled()
    shape = _scene_shape(shard) if rows.dim() == 4 else ()
    same = (shape, rows.dtype, module.training, torch.is_grad_enabled())
    count = rows.shape[2] if rows.dim() == 4 else 0
    said: Sequence[Any] = wire.tell((trouble, same, shard.start, count, seed, learns))
    for rank, (error, theirs, *_) in enumerate(said):
        if error is not None:
            where = "" if wire.size == 1 else f"rank {rank} of {wire.size}: "
            raise type(error)(f"{where}{error}")
        if theirs != said[0][1]:
            raise InputError(
                f"rank {rank} has scene shape, type, training mode and gradients {theirs}, rank 0 "
                f"has {said[0][1]}; they must be the same on all ranks"
            )
    cuts = _cuts([(entry[2], entry[3]) for entry in said], shard.height)
    return cuts, said[0][4], any(entry[5] for entry in said)


def _cuts(spans: list[tuple[int, int]], height: int) -> Cuts:
    """Rows of each rank, which must follow each other."""
    cuts = [0]
    for rank, (start, count) in enumerate(spans):
        if count and start != cuts[-1]:
            raise InputError(
                f"rank {rank} has rows from {start} on, but ranks before it end at {cuts[-1]}; "
                "shards must follow each other in the order of ranks, without gap or overlap"
            )
        cuts.append(cuts[-1] + count)
    if cuts[-1] != height:
        raise InputError(f"the shards have {cuts[-1]} rows in all, the scene has height={height}")
    return tuple(cuts)


def _count_batches(module: nn.Module) -> None:
    """What batch norm counts in training."""
    for found in module.modules():
        counter = getattr(found, "num_batches_tracked", None)
        if found.training and isinstance(counter, Tensor):
            counter += 1

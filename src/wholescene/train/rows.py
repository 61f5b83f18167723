"""One sample over several processes: each has some of its rows, all compute one loss."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wholescene.data import Batch
from wholescene.errors import ConfigError
from wholescene.losses import CombinedLoss
from wholescene.models import DECODERS, Segmenter
from wholescene.spatial import (
    SceneSums,
    SegmentBytes,
    Shard,
    equal_cuts,
    run_sharded,
    segment_bytes,
)
from wholescene.train.contract import RunSettings

__all__ = ["SharedRows", "bytes_in_segments", "check_rows", "may_lack_rows"]


def check_rows(config: RunSettings, world: int) -> None:
    """Refuse what cannot be trained in rows, before anything is started.

    Args:
        config: The run.
        world: Processes that torchrun or srun started; 1 if none did.

    Raises:
        ConfigError: If a setting does not go with ``parallel.rows`` or ``parallel.segments``.
    """
    rows, segments = config.parallel.rows, config.parallel.segments
    if rows == segments == 1:
        return
    setting, value = ("parallel.rows", rows) if rows > 1 else ("parallel.segments", segments)
    if world > 1 and world % rows:
        raise ConfigError(
            f"parallel.rows = {rows} does not divide the {world} processes that were started; "
            f"start a multiple of {rows}, or change parallel.rows"
        )
    if config.train.precision != "float32":
        raise ConfigError(
            f"{setting} = {value} trains in float32 only, not {config.train.precision!r}; "
            f"unset train.precision, or set {setting}: 1"
        )
    if DECODERS[config.model.decoder].has_own_loss:
        raise ConfigError(
            f"decoder {config.model.decoder!r} has a loss of its own, which {setting} = {value} "
            f"cannot share out; choose another decoder, or set {setting}: 1"
        )
    if config.model.refine is not None:
        raise ConfigError(
            f"model.refine chooses windows of the whole scene, which {setting} = {value} cannot "
            f"share out; set {setting}: 1"
        )


def bytes_in_segments(model: Segmenter, shape: tuple[int, ...], segments: int) -> SegmentBytes:
    """Bytes of all maps of a training step, and what segments keep of them.

    Args:
        model: Network to train.
        shape: Of the rows of one process, (B, C, H, W).
        segments: Parts that are computed again on the way back.
    """
    return segment_bytes(_Heads(model).train(), shape, segments)


def may_lack_rows(rows: int, stride: int, height: int) -> bool:
    """Whether a process may have no row of the coarsest map, and so no gradient for its layers.

    Args:
        rows: Processes that share a sample.
        stride: Of the coarsest map.
        height: Rows of the smallest sample.
    """
    return rows > 1 and height < 2 * rows * stride


class SharedRows:
    """The processes that share a sample.

    Args:
        rows: How many they are; consecutive ranks share.
        model: Network to train.
        segments: Parts of it that are computed again on the way back; 1 keeps all.
    """

    def __init__(self, rows: int, model: Segmenter, *, segments: int = 1) -> None:
        self.rows, self.segments = rows, segments
        self._heads = _Heads(model)
        self._group: dist.ProcessGroup | None = None

    def join(self, rank: int, world: int) -> None:
        """Find the others; every process of the run calls it."""
        if world == 1:
            return
        for first in range(0, world, self.rows):
            group = dist.new_group(list(range(first, first + self.rows)))
            if first <= rank < first + self.rows:
                self._group = group  # type: ignore[assignment]

    def loss(self, loss: CombinedLoss, batch: Batch) -> Tensor:
        """Loss of the whole sample; its gradients are those of this process's rows.

        They are made larger by the number of rows, because processes average theirs.
        """
        image, label = batch["image"], batch["label"]
        height = image.shape[2]
        place = 0 if self._group is None else dist.get_rank(self._group)
        start, stop = equal_cuts(height, self.rows)[place:][:2]
        shard = Shard(image[:, :, start:stop], start, height, self._group)
        self._heads.training = self._heads.model.training
        joined = run_sharded(self._heads, shard, segments=self.segments).local
        outputs = self._heads.apart(joined)
        found: Tensor = loss(outputs, label[:, start:stop], SceneSums(self._group))
        return _Enlarged.apply(found, self.rows)  # type: ignore[no-any-return]


class _Heads(nn.Module):
    """All logits that train as one tensor."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model
        side = 2 * model.stride
        image = torch.empty(2, model.spec.num_bands, side, side, device="meta")
        self.names = tuple(copy.deepcopy(model).float().to("meta").forward_train(image))

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat(list(self.model.forward_train(image).values()), 1)

    def apart(self, joined: Tensor) -> dict[str, Tensor]:
        """The logits by name."""
        return dict(zip(self.names, joined.chunk(len(self.names), 1), strict=True))


class _Enlarged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None

"""Ways to map a scene that is in memory, all with one signature: image in, class map filled.

Every way takes the channels-last image, float32 or bfloat16, and writes the class of the largest
logit of each pixel into a uint8 map. Names: ``streamed`` (the default block) or ``streamed-BLOCK``,
``windowed-PERCENT`` and ``monai-PERCENT`` (overlap of 512 px windows), ``eager-TILE`` and
``folded-TILE`` (tiles without overlap), ``whole``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["make", "unit_px"]

WINDOW_PX, BATCH = 512, 4
_held = ExitStack()

Run = Callable[[Tensor, Tensor], None]
"""Maps an image (1, C, H, W) into a class map (H, W)."""
Shape = tuple[int, int, int, int]


def make(name: str, module: nn.Module, shape: Shape) -> Run:
    """Make a way ready for scenes of one shape.

    Args:
        name: See the module.
        module: Evaluated network, channels last.
        shape: Shape (1, C, H, W) of the image.
    """
    kind, _, number = name.partition("-")
    return MAKERS[kind](module, shape, int(number) if number else None)


def unit_px(name: str) -> int:
    """Side of what is computed at once, for a warm-up."""
    kind, _, number = name.partition("-")
    return int(number) if number and kind in ("streamed", "eager", "folded") else WINDOW_PX


def streamed(module: nn.Module, shape: Shape, block: int | None) -> Run:
    """The exact engine; warmed by two rows of blocks, as tile loops are by a tile."""
    from wholescene.heap import steady_heap
    from wholescene.spatial import Streamer

    _held.enter_context(steady_heap())
    ready = Streamer(module, shape, block=block)

    def run(image: Tensor, classes: Tensor, num_rows: int | None = None) -> None:
        def sink(rows: slice, cols: slice, logits: Tensor) -> None:
            put(classes, rows, cols, logits)

        for done in ready.rows(image, sink):
            if done.steps == num_rows:
                break

    run.warm = partial(run, num_rows=2)  # type: ignore[attr-defined]
    return run


def windowed(module: nn.Module, shape: Shape, percent: int | None) -> Run:
    """This package's overlapping windows."""
    from wholescene.geometry import Size
    from wholescene.prediction import windowed as engines
    from wholescene.prediction.engine import Forward
    from wholescene.prediction.views import Views

    dtype = next(module.parameters()).dtype
    spec = SimpleNamespace(mean=(0.0,) * shape[1], std=(1.0,) * shape[1])
    size, overlap = Size(*shape[2:]), WINDOW_PX * (percent or 0) // 100

    def run(image: Tensor, classes: Tensor) -> None:
        with torch.inference_mode():
            spec.classes = range(module(image[..., :64, :64]).shape[1])
        network = _Cast(module, dtype, spec)
        forward = Forward(network, torch.device("cpu"), "float32", Views.parse(None))
        block = Size(*(min(WINDOW_PX, side) for side in size))
        shared = Size(*(min(overlap, side - 1) for side in block))
        engine = engines.WindowedEngine(size, block, shared, BATCH)
        for band in engine.bands(_Reader(image, size), forward, 0):
            rows = slice(band.row_off, band.row_stop)
            put(classes, rows, slice(None), band.probabilities[None])

    return run


class _Reader:
    """Stands in for a scene's files."""

    def __init__(self, image: Tensor, size: Any) -> None:
        self.image, self.size = image, size

    def read(self, window: Any) -> Any:
        from wholescene.raster import Pixels

        values = self.image[0, :, window.rows, window.cols].float().numpy()
        return Pixels(values=values, valid=np.ones(values.shape[1:], bool))


class _Cast(nn.Module):
    """A network whose input comes as float32."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, spec: Any) -> None:
        super().__init__()
        self.module, self.dtype, self.spec = module, dtype, spec

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.module(image.to(self.dtype))
        return result


def monai(module: nn.Module, shape: Shape, percent: int | None) -> Run:
    """MONAI's sliding window."""
    from monai.inferers import sliding_window_inference

    @torch.inference_mode()
    def run(image: Tensor, classes: Tensor) -> None:
        logits = sliding_window_inference(
            image,
            roi_size=(WINDOW_PX, WINDOW_PX),
            sw_batch_size=BATCH,
            predictor=module,
            overlap=(percent or 0) / 100,
            mode="gaussian",
        )
        put(classes, slice(None), slice(None), logits)

    return run


def eager(module: nn.Module, shape: Shape, tile: int | None) -> Run:
    """Tiles without overlap, as a user would write it."""

    @torch.inference_mode()
    def run(image: Tensor, classes: Tensor) -> None:
        for rows, cols in tiles(shape, tile):
            put(classes, rows, cols, module(image[..., rows, cols]))

    return run


def folded(module: nn.Module, shape: Shape, tile: int | None) -> Run:
    """The same tiles on the network of ``folded.py``."""
    from folded import fold_network

    graphs: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {}
    for rows, cols in tiles(shape, tile):
        each = (*shape[:2], rows.stop - rows.start, cols.stop - cols.start)
        if each not in graphs:
            graphs[each] = fold_network(module, each)

    @torch.inference_mode()
    def run(image: Tensor, classes: Tensor) -> None:
        for rows, cols in tiles(shape, tile):
            part = image[..., rows, cols].contiguous(memory_format=torch.channels_last)
            put(classes, rows, cols, graphs[tuple(part.shape)](part))

    return run


def whole(module: nn.Module, shape: Shape, _: int | None) -> Run:
    """One plain forward."""

    @torch.inference_mode()
    def run(image: Tensor, classes: Tensor) -> None:
        put(classes, slice(None), slice(None), module(image))

    return run


def tiles(shape: Sequence[int], side: int | None) -> Iterator[tuple[slice, slice]]:
    """Cut a scene; the last row and column of tiles may be smaller."""
    height, width = shape[2:]
    step = side or WINDOW_PX
    for top in range(0, height, step):
        for left in range(0, width, step):
            yield slice(top, min(top + step, height)), slice(left, min(left + step, width))


def put(classes: Tensor, rows: slice, cols: slice, logits: Tensor) -> None:
    """Write the classes of a region."""
    classes[rows, cols] = logits.argmax(1)[0]


MAKERS: dict[str, Callable[[nn.Module, Shape, int | None], Run]] = {
    "streamed": streamed,
    "windowed": windowed,
    "monai": monai,
    "eager": eager,
    "folded": folded,
    "whole": whole,
}

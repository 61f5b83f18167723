"""Exact execution of one network over one scene, block by block."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.heap import lean_heap, steady_heap, tidy_heap
from wholescene.spatial.capture import Output
from wholescene.spatial.checkpoint import Checkpoint
from wholescene.spatial.execute import Done, Execution, Read, Sink
from wholescene.spatial.pack import pack_weights
from wholescene.spatial.plan import Plan, choose_footprint, module_dtype, prepare, streamed_plan
from wholescene.spatial.pool import Pool

__all__ = ["Streamer", "stream"]


def stream(
    module: nn.Module,
    image: Tensor | Read,
    *,
    shape: Sequence[int] | None = None,
    block: int | None = None,
    memory: int | str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    output: Output = None,
    sink: Sink | None = None,
    spill_dir: str | Path | None = None,
    strict: bool = False,
) -> Tensor | None:
    """Run a network over a scene of any size: ``module(image)``, the same numbers.

    Every element of every layer is computed once per sweep; only rows and columns that later
    blocks read are held. Layers that must see the whole scene take another sweep; operators
    without a rule run whole. The result does not depend on the block, up to the rounding of
    kernels that are chosen by shape.

    Args:
        module: Evaluated network that maps ``(B, C, H, W)`` to ``(B, K, H', W')``.
        image: The scene, or a function ``(rows, cols) -> (B, C, h, w)`` of two slices that can
            be called repeatedly.
        shape: Shape of the scene; required with a function.
        block: Side of a block on the finest grid, in pixels.
        memory: Budget in bytes, or a text such as ``"4GiB"``; chooses the block.
        device: Where to compute; the module's own by default.
        dtype: Type to compute in; the module's own by default.
        output: Picks from a module that returns a dict, tuple or object: a key, index or
            attribute.
        sink: Takes ``(rows, cols, tensor)`` for each region of the result, each element exactly
            once; it must not change the tensor. Without it the whole result is returned.
        spill_dir: Folder for values held between sweeps; in memory by default.
        strict: Refuse layers without a rule, before any pixel is read.

    Returns:
        The result ``(B, K, H', W')``, or nothing if a sink takes it.

    Raises:
        InputError: If an argument is out of range or the image has not the shape it should.
        UnsupportedError: If the module cannot be traced, or ``strict`` refuses a layer.
    """
    size = _shape_of(image, shape)
    spilled = spill_dir is not None
    ready = Streamer(
        module,
        size,
        block=block,
        memory=memory,
        device=device,
        dtype=dtype,
        output=output,
        strict=strict,
        spilled=spilled,
    )
    result = None if sink is not None else ready.empty_result(image)
    with tempfile.TemporaryDirectory(prefix="wholescene-", dir=spill_dir) as folder:
        spill = Path(folder) if spilled else None
        for _ in ready.rows(image, sink or _writer(result), spill_dir=spill):
            pass
    return result


class Streamer:
    """A network made ready to run over scenes of one shape.

    Args:
        module: As for :func:`stream`, and so are the others.
        shape: Shape ``(B, C, H, W)`` of the scenes.
        spilled: Whether kept values will be in files, which the memory then need not hold.

    Raises:
        InputError: If an argument is out of range.
        UnsupportedError: If the module cannot be traced, or ``strict`` refuses a layer.
    """

    def __init__(
        self,
        module: nn.Module,
        shape: Sequence[int],
        *,
        block: int | None = None,
        memory: int | str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        output: Output = None,
        strict: bool = False,
        spilled: bool = False,
    ) -> None:
        if module.training:
            raise InputError("the module is in training mode; call module.eval() first")
        module = _moved(module, device, dtype)
        self.shape = tuple(shape)
        self.device, self.dtype = _device_of(module), module_dtype(module)
        self._ready = prepare(module, shape, output=output, strict=strict)
        self._footprint = choose_footprint(self._ready, block=block, memory=memory, spilled=spilled)
        self._pool = Pool(self.device)
        self.plan: Plan = streamed_plan(self._ready, self._footprint)
        pack_weights(self._ready, self._footprint)
        tidy_heap(0)  # tracing leaves 100 to 250 MiB of free memory behind

    def rows(
        self,
        image: Tensor | Read,
        sink: Sink,
        *,
        spill_dir: Path | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Generator[Done, None, None]:
        """Run over a scene, row of blocks by row of blocks.

        Args:
            image: The scene, or a function that reads it.
            sink: Takes each region of the result.
            spill_dir: Folder for values held between sweeps; in memory by default.
            checkpoint: Where the position is written down after each row of blocks (once the
                caller asks for the next), and from where it is taken up; holds kept values too.
        """
        read = _checked(image, self.shape, self.device, self.dtype)
        block = self._footprint.block
        steps = Execution(
            self._ready,
            read,
            sink,
            block=block,
            pool=self._pool,
            spill_dir=spill_dir,
            checkpoint=checkpoint,
        ).rows()
        with lean_heap() if self._footprint.lean else steady_heap():
            while True:
                with torch.inference_mode():  # not while the caller has its turn
                    done = next(steps, None)
                if done is None:
                    return
                tidy_heap(self._footprint.idle)
                yield done

    def empty_result(self, image: Tensor | Read) -> Tensor:
        """Room for the whole result, on the image's device."""
        graph = self._ready.graph
        value = graph.values[graph.output]
        device = image.device if isinstance(image, Tensor) else torch.device("cpu")
        return torch.empty(value.shape, dtype=value.dtype, device=device)


def _shape_of(image: Tensor | Read, shape: Sequence[int] | None) -> tuple[int, ...]:
    if isinstance(image, Tensor):
        if image.dim() != 4:
            raise InputError(f"an image of shape {tuple(image.shape)} is not (B, C, H, W)")
        if shape is not None and tuple(shape) != tuple(image.shape):
            raise InputError(f"shape={tuple(shape)} is not that of the image {tuple(image.shape)}")
        return tuple(image.shape)
    if not callable(image):
        raise InputError(f"image is a {type(image).__name__}, neither a tensor nor a function")
    if shape is None:
        raise InputError("shape=(B, C, H, W) is required when the image is a function")
    return tuple(int(entry) for entry in shape)


def _moved(
    module: nn.Module, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """The module where and in what it shall compute; a copy if that changes it."""
    target = torch.device(device) if device is not None else _device_of(module)
    kind = dtype or module_dtype(module)
    if target.type == _device_of(module).type and kind == module_dtype(module):
        return module
    return copy.deepcopy(module).to(target, kind)


def _device_of(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _checked(
    image: Tensor | Read, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Read:
    """Read regions as the network wants them."""

    def read(rows: slice, cols: slice) -> Tensor:
        part = image[..., rows, cols] if isinstance(image, Tensor) else image(rows, cols)
        wanted = (*shape[:2], rows.stop - rows.start, cols.stop - cols.start)
        if not isinstance(part, Tensor) or tuple(part.shape) != wanted:
            given = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise InputError(
                f"the image function gave {given} for rows {rows.start}:{rows.stop} and columns "
                f"{cols.start}:{cols.stop}; it must give a tensor of shape {wanted}"
            )
        part = part.to(device, dtype, non_blocking=True)
        return part.contiguous(memory_format=torch.channels_last)

    return read


def _writer(result: Tensor | None) -> Callable[[slice, slice, Tensor], None]:
    assert result is not None
    target = result

    def write(rows: slice, cols: slice, part: Tensor) -> None:
        target[..., rows, cols] = part.to(target.device)

    return write

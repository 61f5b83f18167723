"""Operators that look at the whole scene and leave something small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wholescene.spatial.axis import AxisNeed
from wholescene.spatial.graph import Value
from wholescene.spatial.layout import Atom, Axis, Dim, Layout
from wholescene.spatial.precise import accumulator_dtype, square_total, total
from wholescene.spatial.regions import Span
from wholescene.spatial.rules.base import (
    Built,
    Input,
    Local,
    Needs,
    Reduction,
    Rule,
    identities,
    image_axes,
    image_layout,
)
from wholescene.spatial.rules.channels import dims_of

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "extremum",
    "mean",
    "sum_over",
    "vector_norm",
]

_FEW_BINS = 4096
"""Up to this many bins, adaptive pooling leaves one small tensor."""

Edges = NDArray[np.int64]


class Totals(Reduction):
    """Fold regions of the first argument into a tensor that has fewer dimensions' entries.

    Args:
        value: The operator.
        domain: Layout of the first argument.
        dims: Dimensions that are folded; all others keep their entries.
    """

    def __init__(self, value: Value, domain: Layout, dims: Sequence[int]) -> None:
        self.value, self.domain, self.dims = value, domain, tuple(dims)
        self.needs = (identities(domain),)
        self.layout = _folded(domain, self.dims, keeps=len(value.shape) == len(domain.dims))
        self._wide = _folded(domain, self.dims, keeps=True)
        self.folded = prod(prod(atom.size for atom in domain.dims[dim]) for dim in self.dims)

    def add(self, local: Local) -> None:
        part = self.part(local.tensors[0])
        if self.total is None:
            self.total = torch.full(
                self._wide.shape, self.initial, dtype=part.dtype, device=part.device
            )
        view = self.total
        for axis in Axis:
            dim = self._wide.dim_of(axis)
            if dim is not None:
                start, stop = local.out[axis]
                view = view.narrow(dim, start, stop - start)
        view.copy_(self.joined(view.clone(), part, 0))

    def finish(self) -> Tensor:
        assert self.total is not None
        return self.done(self.total).reshape(self.value.shape).to(self.value.dtype)

    initial: float = 0.0

    def part(self, tensor: Tensor) -> Tensor:
        """Fold one region, keeping the folded dimensions with one entry."""
        return total(tensor, self.dims)

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        return total + part

    def done(self, total: Tensor) -> Tensor:
        """Turn the total into the result."""
        return total


class _Means(Totals):
    def done(self, total: Tensor) -> Tensor:
        return total / self.folded


class _Extrema(Totals):
    """Largest or smallest."""

    def __init__(self, value: Value, domain: Layout, dims: Sequence[int], *, is_max: bool) -> None:
        super().__init__(value, domain, dims)
        self.is_max = is_max
        self.initial = float("-inf") if is_max else float("inf")

    def part(self, tensor: Tensor) -> Tensor:
        fold = torch.amax if self.is_max else torch.amin
        return fold(tensor, self.dims, keepdim=True)

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        return (torch.maximum if self.is_max else torch.minimum)(total, part)


class _Norms(Totals):
    """p-norm."""

    def __init__(self, value: Value, domain: Layout, dims: Sequence[int], order: float) -> None:
        super().__init__(value, domain, dims)
        self.order = order

    def part(self, tensor: Tensor) -> Tensor:
        if self.order == 2 and not tensor.is_complex():
            return square_total(tensor, self.dims)
        exact = tensor.to(accumulator_dtype(tensor.dtype)).abs()
        return (exact**self.order).sum(self.dims, keepdim=True)

    def done(self, total: Tensor) -> Tensor:
        # The slope of a root at zero is infinite; a norm there has none.
        is_zero = total == 0
        return torch.where(is_zero, 0, torch.where(is_zero, 1, total) ** (1 / self.order))


def mean(value: Value, inputs: Sequence[Input]) -> Built:
    """Mean over rows, columns or both."""
    dims = _dims(value, inputs)
    return None if dims is None else _Means(value, inputs[0].layout, dims)


def sum_over(value: Value, inputs: Sequence[Input]) -> Built:
    """Sum over rows, columns or both."""
    dims = _dims(value, inputs)
    return None if dims is None else Totals(value, inputs[0].layout, dims)


def extremum(*, is_max: bool) -> Callable[[Value, Sequence[Input]], Built]:
    """Maximum or minimum over rows, columns or both."""

    def build(value: Value, inputs: Sequence[Input]) -> Built:
        dims = _dims(value, inputs)
        if dims is None or not value.dtype.is_floating_point or value.part == 1:
            return None  # places are not kept
        return _Extrema(value, inputs[0].layout, dims, is_max=is_max)

    return build


def vector_norm(value: Value, inputs: Sequence[Input]) -> Built:
    """p-norm over the scene, as global response normalisation has it."""
    order = value.args[1] if len(value.args) > 1 else 2
    dims = _dims(value, inputs)
    usual = isinstance(order, int | float) and 0 < order < float("inf")
    if dims is None or not usual:
        return None
    return _Norms(value, inputs[0].layout, dims, float(order))


def _dims(value: Value, inputs: Sequence[Input]) -> list[int] | None:
    """Folded dimensions counted from 0; each axis must be folded or have its own dimension."""
    layout = inputs[0].layout
    dims = dims_of(value, len(layout.dims))
    for axis in Axis:
        dim = layout.dim_of(axis)
        if dim is not None and dim not in dims and not layout.is_alone(axis):
            return None
    return dims


def _folded(layout: Layout, dims: Sequence[int], *, keeps: bool) -> Layout:
    kept: list[Dim] = []
    for i, dim in enumerate(layout.dims):
        if i not in dims:
            kept.append(dim)
        elif keeps:
            kept.append((Atom(1),))
    return Layout(tuple(kept))


def adaptive_average_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """Average pooling to a fixed number of bins; bins may overlap by a pixel."""
    return _adaptive(value, inputs, is_max=False)


def adaptive_max_pool(value: Value, inputs: Sequence[Input]) -> Built:
    """Max pooling to a fixed number of bins; only the maxima, not their places."""
    return _adaptive(value, inputs, is_max=True) if value.part in (None, 0) else None


def _adaptive(value: Value, inputs: Sequence[Input], *, is_max: bool) -> Built:
    layout = inputs[0].layout
    axes = image_axes(layout)
    if axes is None:
        return None
    edges = [
        bin_edges(size, bins)
        for size, bins in zip(inputs[0].shape[2:], value.shape[2:], strict=True)
    ]
    fold = _bin_maxima if is_max else _bin_means
    if prod(value.shape[2:]) <= _FEW_BINS:
        return _Bins(value, layout, axes, edges, is_max=is_max)
    needs: Needs = {
        axis: AxisNeed(edges[i][:, 0], edges[i][:, 1], inputs[0].shape[2 + i])
        for i, axis in enumerate(axes)
        if axis is not None
    }

    def run(local: Local) -> Tensor:
        x = local.tensors[0]
        for i, axis in enumerate(axes):
            part, origin = edges[i], 0
            if axis is not None:
                part, origin = part[slice(*local.out[axis])], local.span(0, axis)[0]
            x = fold(x, 2 + i, part - origin)
        return x.to(value.dtype)

    return Rule(image_layout(value, layout, axes), (needs,), run)


def _total(x: Tensor, kind: torch.dtype) -> Tensor:
    """Sum over rows and columns: each row in single precision or better, rows in ``kind``."""
    rows = x.permute(0, 2, 3, 1)
    rows = rows.float() if x.dtype.itemsize < 4 else rows
    return (rows.new_ones(1, x.shape[3]) @ rows).sum((1, 2), dtype=kind)


def bin_edges(size: int, bins: int) -> Edges:
    """First and one past the last pixel of each bin."""
    index = np.arange(bins)
    return np.stack([index * size // bins, -(-(index + 1) * size // bins)], axis=1)


def _bin_means(x: Tensor, dim: int, edges: Edges) -> Tensor:
    shape = [1] * x.dim()
    shape[dim] = -1
    sizes = torch.from_numpy(edges[:, 1] - edges[:, 0]).to(x.device).view(shape)
    return _bin_sums(x.to(accumulator_dtype(x.dtype)), dim, edges) / sizes


def _bin_sums(x: Tensor, dim: int, edges: Edges) -> Tensor:
    """Sums over intervals along a dimension, pixel by pixel of a bin."""
    first = torch.from_numpy(edges[:, 0]).to(x.device)
    sizes = torch.from_numpy(edges[:, 1] - edges[:, 0]).to(x.device)
    shape = [1] * x.dim()
    shape[dim] = -1
    total = x.index_select(dim, first)
    for step in range(1, int(sizes.max())):
        at = (first + step).clamp(max=x.shape[dim] - 1)
        inside = (sizes > step).view(shape)
        total = total + torch.where(inside, x.index_select(dim, at), 0)
    return total


def _bin_maxima(x: Tensor, dim: int, edges: Edges) -> Tensor:
    parts = [x.narrow(dim, int(a), int(b - a)).amax(dim, keepdim=True) for a, b in edges]
    return torch.cat(parts, dim)


class _Bins(Reduction):
    """A bin of the output is a product of two intervals of the input."""

    def __init__(
        self,
        value: Value,
        domain: Layout,
        axes: Sequence[Axis | None],
        edges: Sequence[Edges],
        *,
        is_max: bool,
    ) -> None:
        self.value, self.domain, self.axes = value, domain, axes
        self.edges, self.is_max = edges, is_max
        self.layout, self.needs = Layout.plain(value.shape), (identities(domain),)

    def add(self, local: Local) -> None:
        x = local.tensors[0]
        kind = x.dtype if self.is_max else accumulator_dtype(x.dtype)
        if self.total is None:
            first = float("-inf") if self.is_max else 0.0
            self.total = torch.full(self.value.shape, first, dtype=kind, device=x.device)
        rows, cols = (self._touched(i, local, x.shape[2 + i]) for i in range(2))
        for row, (top, bottom) in rows:
            for col, (left, right) in cols:
                inside = x[:, :, top:bottom, left:right]
                bin_ = self.total[:, :, row, col]
                part = inside.amax((2, 3)) if self.is_max else _total(inside, kind)
                bin_.copy_(self.joined(bin_.clone(), part, 0))

    def joined(self, total: Tensor, part: Tensor, count: int) -> Tensor:
        return torch.maximum(total, part) if self.is_max else total + part

    def _touched(self, i: int, local: Local, size: int) -> list[tuple[int, Span]]:
        """Bins along a dimension that a region reaches, and their pixels in it."""
        axis, edges = self.axes[i], self.edges[i]
        start, stop = local.out[axis] if axis is not None else (0, size)
        touched = np.flatnonzero((edges[:, 0] < stop) & (edges[:, 1] > start))
        inside = np.clip(edges[touched], start, stop) - start
        return [(int(k), (int(a), int(b))) for k, (a, b) in zip(touched, inside, strict=True)]

    def finish(self) -> Tensor:
        assert self.total is not None
        if self.is_max:
            return self.total
        rows, cols = (torch.from_numpy(e[:, 1] - e[:, 0]).to(self.total) for e in self.edges)
        return (self.total / (rows[:, None] * cols[None, :])).to(self.value.dtype)

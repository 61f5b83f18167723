"""Exchanges between ranks that gradients go back through.

Every exchange takes a token and gives one back. The tokens make a chain from the scene to the
result, so that a rank takes part in every exchange of the way back, in the same order as all
others, even in those that its own rows had no part in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.cuts import Route, Span, rows_of
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.wire import Wire

__all__ = ["anchored", "fetch", "gather_rows", "new_token", "share", "taken_from"]


def new_token(device: torch.device, *, learns: bool) -> Tensor:
    """The start of a chain; ``learns`` if anything is, the same on every rank."""
    return torch.zeros((), device=device, requires_grad=learns)


def fetch(
    x: Tensor, route: Route, wire: Wire, token: Tensor, *, learns: bool
) -> tuple[list[Tensor], Tensor]:
    """The rows this rank wants, from the ranks that have them.

    Args:
        x: This rank's rows.
        route: Who has and who wants what.
        wire: The ranks.
        token: Of the exchange before.
        learns: Whether gradients go back, the same on every rank.

    Returns:
        One tensor per wanted interval, and the next token.
    """
    if route.is_idle:
        return ([x] if route.wanted[wire.rank] else []), token
    token, *regions = _Fetched.apply(token, x, route, wire, learns)
    return regions, token


def share(x: Tensor, wire: Wire, token: Tensor, *, learns: bool) -> tuple[Tensor, Tensor]:
    """The tensor of every rank, stacked, and the next token."""
    return _Shared.apply(token, x, wire, learns)  # type: ignore[no-any-return]


def anchored(x: Tensor, token: Tensor) -> Tensor:
    """Tie the end of the chain to the result."""
    return _Anchored.apply(x, token)  # type: ignore[no-any-return]


def gather_rows(x: Tensor, route: Route, wire: Wire, *, partial: bool) -> Tensor:
    """All rows on every rank.

    Args:
        x: This rank's rows.
        route: Every rank wants all of them.
        wire: The ranks.
        partial: Whether each rank's gradient is a part of the whole, to be summed; otherwise all
            have the same, and each takes its own rows of it.
    """
    return _Gathered.apply(x, route, wire, partial)  # type: ignore[no-any-return]


class _Fetched(torch.autograd.Function):
    """Rows in, regions out; gradients of regions in, those of rows out."""

    @staticmethod
    def forward(
        ctx: Any, token: Tensor, x: Tensor, route: Route, wire: Wire, learns: bool
    ) -> tuple[Tensor, ...]:
        ctx.known = route, wire, x.new_empty(0), learns
        return (token.clone(), *_regions(x, route, wire))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        route, wire, like, learns = ctx.known
        token, *regions = grads
        rows = _rows(regions, route, wire, like) if learns else None
        return token, rows, None, None, None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, route: Route, wire: Wire, partial: bool) -> Tensor:
        ctx.known = route, wire, partial
        return _regions(x, route, wire)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        route, wire, partial = ctx.known
        (grad,) = grads
        if partial:
            return _rows([grad], route, wire, grad), None, None, None
        own = rows_of(route.owned, wire.rank)
        return taken_from(grad, route.layout, own, route.cols, 0.0), None, None, None


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, token: Tensor, x: Tensor, wire: Wire, learns: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.known = wire, learns
        return torch.stack(wire.gather(x)), token.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        (wire, learns), (grad, token) = ctx.known, grads
        own = wire.sum(grad.contiguous().clone())[wire.rank] if learns else None
        return token, own, None, None


class _Anchored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor) -> Tensor:
        # Saved so that a forward that is repeated for the way back is repeated to its end.
        ctx.save_for_backward(token)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (token,) = ctx.saved_tensors
        return grads[0], torch.zeros_like(token)


def taken_from(x: Tensor, layout: Layout, rows: Span, cols: Span, fill: float) -> Tensor:
    """A region of something that is whole here, with its border."""
    height, width = layout.grid(Axis.ROW) or 1, layout.grid(Axis.COL) or 1
    if (rows, cols) == ((0, height), (0, width)):
        return x
    inner_rows, inner_cols = _inside(rows, height), _inside(cols, width)
    held = _Held(x.reshape(_atoms(layout, height, width)), layout, (0, height), (0, width))
    part = held.part(inner_rows, inner_cols)
    lengths = inner_rows[1] - inner_rows[0], inner_cols[1] - inner_cols[0]
    part = part.reshape(layout.local_shape(*lengths))
    if (inner_rows, inner_cols) == (rows, cols):
        return part
    pads = [inner_cols[0] - cols[0], cols[1] - inner_cols[1]]
    pads += [inner_rows[0] - rows[0], rows[1] - inner_rows[1]]
    return torch.nn.functional.pad(part, pads, value=fill)


def _inside(span: Span, size: int) -> Span:
    low = min(max(span[0], 0), size)
    return low, max(low, min(span[1], size))


def _atoms(layout: Layout, rows: int, cols: int) -> tuple[int, ...]:
    """Shape of a region with every factor of a dimension apart."""
    sizes = {Axis.ROW: rows, Axis.COL: cols}
    atoms = [atom for dim in layout.dims for atom in dim]
    return tuple(atom.size if atom.axis is None else sizes[atom.axis] for atom in atoms)


@dataclass(frozen=True)
class _Held:
    """A region, its factors apart, and where it is in the scene."""

    tensor: Tensor
    layout: Layout
    rows: Span
    cols: Span

    def part(self, rows: Span, cols: Span) -> Tensor:
        """A view of rows and columns of the scene."""
        found, at = self.tensor, 0
        wanted = {Axis.ROW: (rows, self.rows[0]), Axis.COL: (cols, self.cols[0])}
        for dim in self.layout.dims:
            for atom in dim:
                if atom.axis is not None:
                    (start, stop), origin = wanted[atom.axis]
                    found = found.narrow(at, start - origin, stop - start)
                at += 1
        return found


def _own(x: Tensor, route: Route, wire: Wire) -> _Held:
    rows, width = rows_of(route.owned, wire.rank), route.layout.grid(Axis.COL) or 1
    shape = _atoms(route.layout, rows[1] - rows[0], width)
    return _Held(x.reshape(shape), route.layout, rows, (0, width))


def _region(x: Tensor, route: Route, rows: Span) -> _Held:
    """Room for a region, its border filled in."""
    shape = _atoms(route.layout, rows[1] - rows[0], route.cols[1] - route.cols[0])
    is_last = x.dim() == 4 and len(shape) == 4 and x.is_contiguous(memory_format=_LAST)
    kind = _LAST if is_last else torch.contiguous_format
    room = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=kind)
    held = _Held(room, route.layout, rows, route.cols)
    height, width = route.owned[-1], route.layout.grid(Axis.COL) or 1
    inner_rows, inner_cols = _inside(rows, height), _inside(route.cols, width)
    for strip in ((rows[0], inner_rows[0]), (inner_rows[1], rows[1])):
        held.part(strip, route.cols).fill_(route.fill)
    for strip in ((route.cols[0], inner_cols[0]), (inner_cols[1], route.cols[1])):
        held.part(rows, strip).fill_(route.fill)
    return held


_LAST = torch.channels_last


def _regions(x: Tensor, route: Route, wire: Wire) -> list[Tensor]:
    """Regions put together from own rows and those that come."""
    me, layout, own = wire.rank, route.layout, _own(x, route, wire)
    cols = _inside(route.cols, layout.grid(Axis.COL) or 1)
    regions = [_region(x, route, rows) for rows in route.wanted[me]]
    sent, shapes, places = [], [], []
    for peer in range(wire.size):
        if peer != me:
            sent += [(peer, own.part(rows, cols)) for _, rows in route.overlap(me, peer)]
            for i, rows in route.overlap(peer, me):
                shapes.append((peer, _atoms(layout, rows[1] - rows[0], cols[1] - cols[0])))
                places.append((i, rows))
    came = wire.swap(sent, shapes, x)
    for i, rows in route.overlap(me, me):
        regions[i].part(rows, cols).copy_(own.part(rows, cols))
    for (i, rows), part in zip(places, came, strict=True):
        regions[i].part(rows, cols).copy_(part)
    width = route.cols[1] - route.cols[0]
    return [
        held.tensor.reshape(layout.local_shape(held.rows[1] - held.rows[0], width))
        for held in regions
    ]


def _rows(grads: list[Tensor], route: Route, wire: Wire, like: Tensor) -> Tensor:
    """Gradients of own rows, summed over all who had them."""
    me, layout = wire.rank, route.layout
    start, stop = rows_of(route.owned, me)
    full, cols = layout.grid(Axis.COL) or 1, _inside(route.cols, layout.grid(Axis.COL) or 1)
    room = like.new_zeros(_atoms(layout, stop - start, full))
    own = _Held(room, layout, (start, stop), (0, full))
    width = route.cols[1] - route.cols[0]
    regions = [
        _Held(grad.reshape(_atoms(layout, rows[1] - rows[0], width)), layout, rows, route.cols)
        for grad, rows in zip(grads, route.wanted[me], strict=True)
    ]
    sent, shapes, places = [], [], []
    for peer in range(wire.size):
        if peer != me:
            sent += [(peer, regions[i].part(rows, cols)) for i, rows in route.overlap(peer, me)]
            for _, rows in route.overlap(me, peer):
                shapes.append((peer, _atoms(layout, rows[1] - rows[0], cols[1] - cols[0])))
                places.append(rows)
    came = wire.swap(sent, shapes, like)
    for i, rows in route.overlap(me, me):
        own.part(rows, cols).add_(regions[i].part(rows, cols))
    for rows, part in zip(places, came, strict=True):
        own.part(rows, cols).add_(part)
    return room.reshape(layout.local_shape(stop - start, full))

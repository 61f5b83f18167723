"""Exchanges between ranks that gradients go back through.

Every exchange takes a token and gives one back. The tokens make a chain from the scene to the
result, so that a rank takes part in every exchange of the way back, in the same order as all
others, even in those that its own rows had no part in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.cuts import Route, Span, rows_of
from wholescene.spatial.layout import Axis, Layout
from wholescene.spatial.regions import (
    cut_region,
    empty_region,
    fill_border,
    inner_part,
    narrowed,
    narrowed_shape,
)
from wholescene.spatial.wire import Wire

__all__ = [
    "anchored",
    "begin_regions",
    "begin_rows",
    "fetch",
    "gather_rows",
    "new_token",
    "share",
    "taken_from",
]


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
        like = x.new_empty_strided((*x.shape[:-1], 0), x.stride())
        ctx.known = route, wire, like, learns
        return (token.clone(), *begin_regions(x, route, wire)())

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
        return begin_regions(x, route, wire)()[0]

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
    scene = _scene(layout)
    inner = inner_part((rows, cols), scene)
    part = cut_region(x, layout, scene, inner)
    if inner == [rows, cols]:
        return part
    (top, bottom), (left, right) = inner
    pads = [left - cols[0], cols[1] - right, top - rows[0], rows[1] - bottom]
    return torch.nn.functional.pad(part, pads, value=fill)


def _scene(layout: Layout) -> tuple[Span, Span]:
    return (0, layout.grid(Axis.ROW) or 1), (0, layout.grid(Axis.COL) or 1)


def _room(layout: Layout, rows: int, cols: int, like: Tensor) -> Tensor:
    """Room for a region, in the order of another: which of them is fast depends on the CPU."""
    if like.dim() == 4 and like.stride(1) != 1:
        return like.new_empty(layout.local_shape(rows, cols))
    return empty_region(layout, rows, cols, like.dtype, like.device)


def _region(x: Tensor, route: Route, rows: Span) -> Tensor:
    """Room for a region, its border filled in."""
    held = rows, route.cols
    height, width = (stop - start for start, stop in held)
    room = _room(route.layout, height, width, x)
    inner = inner_part(held, _scene(route.layout))
    if any(start >= stop for start, stop in inner):
        return room.fill_(route.fill)
    fill_border(room, route.layout, held, inner, route.fill)
    return room


def begin_regions(x: Tensor, route: Route, wire: Wire) -> Callable[[], list[Tensor]]:
    """Begin to put regions together from own rows and those that come.

    Args:
        x: This rank's rows.
        route: Who has and who wants what.
        wire: The ranks.

    Returns:
        Waits for the rows of others and gives the regions; it must be called.
    """
    me = wire.rank
    regions = [_region(x, route, rows) for rows in route.wanted[me]]
    others = [peer for peer in range(wire.size) if peer != me]
    sent = [
        (peer, _of_own(x, route, me, rows))
        for peer in others
        for _, rows in route.overlap(me, peer)
    ]
    places = [
        (peer, _of_region(regions, route, me, i, rows))
        for peer in others
        for i, rows in route.overlap(peer, me)
    ]
    awaited = wire.begin_swap(sent, [(peer, tuple(place.shape)) for peer, place in places], x)
    for i, rows in route.overlap(me, me):
        _of_region(regions, route, me, i, rows).copy_(_of_own(x, route, me, rows))

    def finish() -> list[Tensor]:
        for (_, place), part in zip(places, awaited(), strict=True):
            place.copy_(part)
        return regions

    return finish


def begin_rows(
    grads: Sequence[Tensor], route: Route, wire: Wire, like: Tensor
) -> Callable[[Tensor], None]:
    """Begin to send back gradients of the rows of others.

    Args:
        grads: Gradients of the regions.
        route: Brought the regions.
        wire: The ranks.
        like: Has the type and device of the gradients.

    Returns:
        Waits for the gradients of own rows that come, and adds them to those that it is given; it
        must be called.
    """
    me = wire.rank
    others = [peer for peer in range(wire.size) if peer != me]
    sent = [
        (peer, _of_region(grads, route, me, i, rows))
        for peer in others
        for i, rows in route.overlap(peer, me)
    ]
    places = [(peer, rows) for peer in others for _, rows in route.overlap(me, peer)]
    cols = _columns(route)
    shapes = [(peer, narrowed_shape(route.layout, (rows, cols))) for peer, rows in places]
    awaited = wire.begin_swap(sent, shapes, like)

    def finish(room: Tensor) -> None:
        for (_, rows), part in zip(places, awaited(), strict=True):
            _of_own(room, route, me, rows).add_(part)

    return finish


def _rows(grads: Sequence[Tensor], route: Route, wire: Wire, like: Tensor) -> Tensor:
    """Gradients of own rows, summed over all who had them."""
    me, (_, width) = wire.rank, _scene(route.layout)
    mine = rows_of(route.owned, me)
    finish = begin_rows(grads, route, wire, like)
    room = _room(route.layout, mine[1] - mine[0], width[1], like)
    found = route.overlap(me, me)
    if [rows for _, rows in found] == [mine] and _columns(route) == width:
        room.copy_(_of_region(grads, route, me, found[0][0], mine).reshape(room.shape))
    else:
        room.zero_()
        for i, rows in found:
            _of_own(room, route, me, rows).add_(_of_region(grads, route, me, i, rows))
    finish(room)
    return room


def _columns(route: Route) -> Span:
    """Columns of the scene among those that are wanted."""
    (_, width) = _scene(route.layout)
    (cols,) = inner_part([route.cols], [width])
    return cols


def _of_own(x: Tensor, route: Route, rank: int, rows: Span) -> Tensor:
    """Some of the rows that a rank owns, in the columns that are wanted."""
    (_, width) = _scene(route.layout)
    held = rows_of(route.owned, rank), width
    return narrowed(x, route.layout, held, (rows, _columns(route)))


def _of_region(
    regions: Sequence[Tensor], route: Route, rank: int, interval: int, rows: Span
) -> Tensor:
    """Some rows of one of a rank's regions, without its border."""
    held = route.wanted[rank][interval], route.cols
    return narrowed(regions[interval], route.layout, held, (rows, _columns(route)))

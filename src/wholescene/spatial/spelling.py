"""One spelling for operators that mean the same, and simpler ones for those without a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wholescene.spatial.graph import Graph, Ref
from wholescene.spatial.inplace import SAME, TRANSPARENT, is_composite
from wholescene.spatial.rules import family
from wholescene.spatial.rules.moves import pick

__all__ = ["CASTS", "canonical", "filled_with", "written_out"]

aten = torch.ops.aten

CASTS = {aten.to.device, aten.to.dtype, aten.type_as.default}
"""Operators that give back their argument in another type or on another device."""

_VIEWS = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
}


def canonical(op: Any, args: Any, kwargs: Any, fake: Tensor, graph: Graph) -> tuple[Any, Any, Any]:
    """One spelling for operators that mean the same."""
    if op in _VIEWS:
        return aten.reshape.default, (args[0], list(fake.shape)), {}
    if op is aten.expand_as.default:
        return aten.expand.default, (args[0], list(fake.shape)), {}
    if op in CASTS and op is not aten.to.device:
        return aten.to.dtype, (args[0], fake.dtype), {}
    if op is aten.new_empty.default:
        return aten.empty.memory_format, (list(fake.shape),), {"dtype": fake.dtype}
    if op is aten.transpose.int or op is aten.t.default:
        order = list(range(fake.dim()))
        first, second = (args[1], args[2]) if len(args) > 2 else (0, 1)
        if order:
            order[first], order[second] = order[second], order[first]
        return aten.permute.default, (args[0], order), {}
    if op is aten.batch_norm.default and not args[5]:
        return op, (*args[:5], False, 0.0, args[7], False), {}
    if op is aten.permute.default:
        return op, (args[0], [dim % fake.dim() for dim in args[1]]), {}
    if op in (aten.mean.default, aten.sum.default):
        rank = len(graph.values[args[0].index].shape)
        named = aten.mean.dim if op is aten.mean.default else aten.sum.dim_IntList
        return named, (args[0], list(range(rank)), False), {}
    if op is aten.copy.default:
        given = graph.values[args[1].index]
        if given.shape == tuple(fake.shape):
            return aten.to.dtype, (args[1], fake.dtype), {}
        if given.dtype == fake.dtype:
            return aten.expand.default, (args[1], list(fake.shape)), {}
    index = _known_index(op, args, graph)
    if index is not None:
        return pick, (args[0], *index), {}
    return op, tuple(args), dict(kwargs)


def _known_index(op: Any, args: Any, graph: Graph) -> tuple[int, tuple[int, ...]] | None:
    """Dimension and entries that are picked, if these do not depend on the image."""
    if op is aten.index_select.default:
        dim, ref = args[1:]
    elif op is aten.index.Tensor and sum(isinstance(item, Ref) for item in args[1]) == 1:
        dim, ref = next((i, item) for i, item in enumerate(args[1]) if isinstance(item, Ref))
    else:
        return None
    index = graph.values[ref.index].constant
    if index is None or index.dim() != 1 or index.dtype == torch.bool:
        return None
    shape = graph.values[args[0].index].shape
    return dim % len(shape), tuple(i % shape[dim] for i in index.tolist())


_NUMBERS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "zero": lambda args: 0,
    "zeros": lambda args: 0,
    "ones": lambda args: 1,
    "full": lambda args: args[1],
    "fill": lambda args: args[1],
    "new_full": lambda args: args[2],
}


def filled_with(op: Any, args: Sequence[Any]) -> Any:
    """Number that a whole tensor is filled with; ``None`` if an operator does something else."""
    name = str(op).removeprefix("aten.").split(".")[0].removesuffix("_like")
    number = _NUMBERS.get(name) or _NUMBERS.get(name.removeprefix("new_"))
    found = None if number is None else number(args)
    return None if isinstance(found, Ref) else found


_AS_THEY_ARE = ("lstm", "gru", "rnn", "_upsample", "conv", "grid_sampler")
"""First parts of names of operators that would become something worse."""


def written_out(program: torch.export.ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """How torch writes those operators as simpler ones that have no rule themselves."""
    ops = {node.target for node in program.graph.nodes if node.op == "call_function"}
    opaque = [op for op in ops if isinstance(op, torch._ops.OpOverload) and _is_opaque(op)]
    if not opaque:
        return {}
    table = torch.export.default_decompositions()
    return {op: table[op] for op in opaque if op in table}


def _is_opaque(op: torch._ops.OpOverload) -> bool:
    """Whether an operator has no rule, nor is read as another, but is made of others."""
    if family(op) or op in SAME or op in TRANSPARENT or op in _VIEWS or op in CASTS:
        return False
    name = str(op).removeprefix("aten.")
    return (is_composite(op) or op is aten.rot90.default) and not name.startswith(_AS_THEY_ARE)

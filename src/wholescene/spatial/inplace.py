"""Operators that change a tensor in place, in programs that can be read as ``export`` gives them.

``run_decompositions`` rewrites every program so that nothing is changed in place, and takes longer
than the tracing itself. Most networks need no such care: what they change (a norm's result, by
``relu_``) has no other name under which anybody would see it.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

__all__ = ["IN_PLACE", "SAME", "TRANSPARENT", "is_composite", "is_readable"]

aten = torch.ops.aten

IN_PLACE = {
    aten.add_.Tensor: aten.add.Tensor,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.leaky_relu_.default: aten.leaky_relu.default,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.relu_.default: aten.relu.default,
    aten.sigmoid_.default: aten.sigmoid.default,
    aten.silu_.default: aten.silu.default,
}
"""Operators in place, each with the one that gives the same as a new tensor."""

TRANSPARENT = {
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.dropout.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.lift_fresh_copy.default,
}
"""Operators that give back their input when a network is evaluated, or a copy taken for it."""

# What torch writes as several operators may give back its argument; these do not.
_COMPOSITE = {
    aten._upsample_bicubic2d_aa.vec,
    aten.adaptive_avg_pool2d.default,
    aten.batch_norm.default,
    aten.conv2d.default,
    aten.conv_transpose2d.input,
    aten.group_norm.default,
    aten.layer_norm.default,
    aten.linear.default,
    aten.matmul.default,
    aten.max_pool2d.default,
    aten.scaled_dot_product_attention.default,
    aten.softmax.int,
    aten.upsample_bilinear2d.vec,
    aten.upsample_nearest2d.vec,
}
SAME = {
    aten.chunk.default,
    aten.einsum.default,
    aten.expand_as.default,
    aten.flatten.using_ints,
    aten.meshgrid.indexing,
    aten.pad.default,
    aten.reshape.default,
    aten.to.device,
    aten.to.dtype,
    aten.type_as.default,
    aten.unflatten.int,
}
"""Composite operators that may give back their argument, read as they are or as views."""

# Position of the argument that makes these depend on chance or on the batch.
_TRAINED = {
    aten.batch_norm.default: 5,
    aten.dropout.default: 2,
    aten.feature_dropout.default: 2,
    aten.feature_dropout_.default: 2,
}


def is_readable(program: torch.export.ExportedProgram) -> bool:
    """Whether a program means the same if operators in place give new tensors instead.

    The names of what they changed must stand for the new tensor from there on.
    """
    place = {node: at for at, node in enumerate(program.graph.nodes)}
    return all(_is_plain(node, place) for node in place if node.op == "call_function")


def _is_plain(node: Node, place: dict[Node, int]) -> bool:
    op = node.target
    if op is operator.getitem:
        return True
    if not isinstance(op, torch._ops.OpOverload) or (op in _TRAINED and node.args[_TRAINED[op]]):
        return False
    if op in IN_PLACE:
        return _is_unseen(node, place)
    known = op in _COMPOSITE or op in SAME or op in TRANSPARENT
    return known or not (op._schema.is_mutable or is_composite(op))


def _is_unseen(node: Node, place: dict[Node, int]) -> bool:
    """Whether what is changed was given to nobody who may still see it under another name."""
    first: Any = node
    while first.target in IN_PLACE:
        first = first.args[0]
    names = [first]
    for name in names:  # grows
        names += [user for user in name.users if _changes(user, name)]
    kinds = {arg.meta["val"].dtype for arg in node.all_input_nodes}
    users = {user for name in names for user in name.users if place[user] < place[node]}
    others = [user for user in users if user not in names and user.target not in IN_PLACE]
    return len(kinds) == 1 and _is_fresh(first) and all(map(_is_fresh, others))


def _changes(user: Node, name: Node) -> bool:
    return user.target in IN_PLACE and user.args[0] is name


def _is_fresh(node: Node) -> bool:
    """Whether a result shares no memory with an argument, nor is taken for it."""
    op = node.target
    taken = op in TRANSPARENT or op is aten.constant_pad_nd.default  # which may pad by nothing
    if taken or not isinstance(op, torch._ops.OpOverload):
        return False
    shares = any(arg.alias_info is not None for arg in op._schema.arguments)
    return op in _COMPOSITE or not (shares or is_composite(op))


def is_composite(op: torch._ops.OpOverload) -> bool:
    """Whether torch writes an operator as several others."""
    return op.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)

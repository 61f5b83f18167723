"""Trace a module at the scene's shape without computing or allocating anything.

``torch.export`` runs the module on a tensor that has the scene's shape but no memory, so that
everything the module derives from the size, internal padding included, is in the graph.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from wholescene.errors import InputError, UnsupportedError
from wholescene.spatial.chance import is_random, scene_dropout
from wholescene.spatial.graph import Graph, Ref, Value, run_op
from wholescene.spatial.inplace import IN_PLACE, TRANSPARENT, is_readable
from wholescene.spatial.spelling import CASTS, canonical, filled_with, written_out

__all__ = ["Output", "capture", "pick"]

Output = str | int | None
aten = torch.ops.aten

_FOLDED_BYTES = 64 << 20
"""Values that do not depend on the image are computed at once up to this size."""


def capture(
    module: nn.Module,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    output: Output = None,
    live: bool = False,
) -> Graph:
    """Trace a module.

    Args:
        module: Maps ``(B, C, H, W)`` to ``(B, K, H', W')``.
        shape: Shape of the scene.
        dtype: Type of the image.
        output: Picks from a module that returns a dict, tuple or object.
        live: Keep parameters as they are, to be learnt, and what follows from them to be computed
            anew; the module may be in training mode then.

    Raises:
        InputError: If the module is in training mode and is not traced to be learnt.
        UnsupportedError: If it cannot be traced at this shape.
    """
    if module.training and not live:
        raise InputError("the module is in training mode; call module.eval() first")
    picked = _Picked(module, output)
    if live:
        picked.training = module.training  # and every part of the module keeps its own mode
    else:
        picked.eval()
    try:
        device = next(iter(module.parameters()), torch.empty(0)).device
        with FakeTensorMode(allow_non_fake_inputs=True):
            image = torch.empty(tuple(shape), dtype=dtype, device=device)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(picked, (image,), strict=False)
            if live or not is_readable(program):
                program = program.run_decompositions({})
            if table := written_out(program):
                program = program.run_decompositions(table)
    except InputError:
        raise
    except Exception as error:  # the module is foreign code: it may raise anything
        raise UnsupportedError(
            f"{type(module).__name__} cannot be traced at shape {tuple(shape)}: "
            f"{_reason(error)}. It must accept this shape in a plain forward and use no control "
            "flow that depends on pixels"
        ) from error
    return _Builder(program, dict(picked.named_parameters()) if live else {}).build().pruned()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


class _Picked(nn.Module):
    """A module of which only one tensor of the result is wanted."""

    def __init__(self, module: nn.Module, output: Output) -> None:
        super().__init__()
        self.module, self.output = module, output

    def forward(self, image: Tensor) -> Tensor:
        return pick(self.module(image), self.output)


def pick(result: Any, output: Output) -> Tensor:
    """The tensor that is wanted of what a module returns.

    Raises:
        InputError: If it is not there, or no tensor.
    """
    picked = result if output is None else _entry(result, output)
    if not isinstance(picked, Tensor):
        named = "" if output is None else f" at output={output!r}"
        raise InputError(
            f"the module returns {type(picked).__name__}{named}, not a tensor; pick one with "
            "output=, a key, index or attribute"
        )
    return picked


def _entry(result: Any, output: str | int) -> Any:
    named = isinstance(output, str) and not isinstance(result, dict)
    try:
        return getattr(result, str(output)) if named else result[output]
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        known = f" with {list(result)}" if isinstance(result, dict) else ""
        raise InputError(
            f"output={output!r} is not in what the module returns, a {type(result).__name__}{known}"
        ) from error


_SILENT = {
    aten._assert_async.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten._assert_tensor_metadata.default,
    aten.sym_constrain_range_for_size.default,
}


class _Builder:
    """Turns an exported program into a graph of fewer kinds of operator."""

    def __init__(
        self, program: torch.export.ExportedProgram, live: Mapping[str, nn.Parameter]
    ) -> None:
        self.program, self.live = program, live
        self.graph = Graph()
        self.static: set[int] = set()
        self.of: dict[str, Any] = {}

    def build(self) -> Graph:
        tensors = self._inputs()
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, tensors)
            elif node.op == "call_function":
                self.of[node.name] = self._call(node)
            elif node.op == "output":
                results: Any = node.args[0]
                self.graph.output = self.of[results[-1].name].index
        return self.graph

    def _inputs(self) -> dict[str, Tensor]:
        signature, program = self.program.graph_signature, self.program
        tensors = {
            key: self.live.get(name, program.state_dict[name])
            for key, name in signature.inputs_to_parameters.items()
        }
        for key, name in signature.inputs_to_buffers.items():
            held = program.state_dict if name in program.state_dict else program.constants
            tensors[key] = held[name]
        for key, name in signature.inputs_to_lifted_tensor_constants.items():
            tensors[key] = program.constants[name]
        return tensors

    def _placeholder(self, node: torch.fx.Node, tensors: dict[str, Tensor]) -> None:
        fake = node.meta["val"]
        value = self.graph.add(None, (), {}, shape=tuple(fake.shape), dtype=fake.dtype)
        if node.name in tensors:
            given = tensors[node.name]
            is_live = isinstance(given, nn.Parameter) and bool(self.live)
            value.constant = given if is_live else given.detach()
            value.layer = str(node.target)
            self.static.add(value.index)
        else:
            self.graph.image = value.index
        self.of[node.name] = value

    def _call(self, node: torch.fx.Node) -> Any:
        if node.target in _SILENT:
            return None
        if node.target is operator.getitem:
            source: Any = node.args[0]
            return self.of[source.name][node.args[1]]
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        if node.target in TRANSPARENT or self._is_idle(node, args):
            return self.graph.values[args[0].index]
        fake = node.meta["val"]
        if isinstance(fake, list | tuple):
            return self._many(node, args, kwargs)
        if not isinstance(fake, Tensor):
            raise UnsupportedError(
                f"{node.target} in layer {_layer(node)!r} gives a number that depends on pixels"
            )
        if not all(isinstance(size, int) for size in fake.shape):
            raise UnsupportedError(
                f"{node.target} in layer {_layer(node)!r} gives a tensor whose size depends on the "
                "values of another, as a mask for an index does; pick entries by their numbers"
            )
        op: Any = node.target
        number = filled_with(op, args)
        if number is not None:
            return self._filled(number, fake)
        value = self._append(IN_PLACE.get(op, op), args, kwargs, fake, _layer(node))
        if op in IN_PLACE:  # from now on the names of what it changed stand for the result
            changed = self.graph.values[args[0].index]
            self.of |= {name: value for name, held in self.of.items() if held is changed}
        return value

    def _is_idle(self, node: torch.fx.Node, args: Any) -> bool:
        """Whether an operator has nothing to do: no rows to pad or to cut off, the type as is."""
        if node.target in CASTS:
            source: Any = node.args[0]
            before, after = source.meta["val"], node.meta["val"]
            return (before.dtype, before.device) == (after.dtype, after.device)
        if node.target in (aten.pad.default, aten.constant_pad_nd.default):
            return not any(args[1])
        if node.target in (aten.slice.Tensor, aten.expand.default, aten.expand_as.default):
            step = args[4] if node.target is aten.slice.Tensor and len(args) > 4 else 1
            return step == 1 and self.graph.values[args[0].index].shape == node.meta["val"].shape
        return False

    def _append(
        self, op: Any, args: Any, kwargs: Any, fake: Tensor, layer: str, part: int | None = None
    ) -> Value:
        op, args, kwargs = canonical(op, args, kwargs, fake, self.graph)
        value = self.graph.add(
            op, args, kwargs, shape=tuple(fake.shape), dtype=fake.dtype, layer=layer, part=part
        )
        if 0 in value.shape:
            value.constant = torch.empty(value.shape, dtype=value.dtype)
            self.static.add(value.index)
        elif not is_random(op, args, kwargs) and all(ref in self.static for ref in value.refs()):
            self.static.add(value.index)
            self._fold(value)
        return value

    def _filled(self, number: Any, fake: Tensor) -> Value:
        """A number everywhere, held once."""
        shape = (1,) * fake.dim()
        entry = self.graph.add(None, (), {}, shape=shape, dtype=fake.dtype)
        entry.constant = torch.full(shape, number, dtype=fake.dtype, device=fake.device)
        self.static.add(entry.index)
        return self._append(aten.expand.default, (Ref(entry.index), list(fake.shape)), {}, fake, "")

    def _fold(self, value: Value) -> None:
        """Compute a value that does not depend on the image, unless it would be large."""
        known = {ref: self.graph.values[ref].constant for ref in value.refs()}
        is_known = all(item is not None and not item.requires_grad for item in known.values())
        if value.num_bytes <= _FOLDED_BYTES and is_known:
            with torch.no_grad():
                value.constant = run_op(value, known.__getitem__)  # type: ignore[arg-type]
            # What it was made from is needed no longer.
            value.op, value.args, value.kwargs, value.part = None, (), {}, None

    def _many(self, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        """Operators with several results: one value per result."""
        fakes, layer = node.meta["val"], _layer(node)
        if node.target is aten._native_batch_norm_legit_functional.default:
            norm = (*args[:5], True, *args[6:], False)
            return (self._append(aten.batch_norm.default, norm, {}, fakes[0], layer),) * len(fakes)
        if node.target is aten.native_dropout.default:
            key = len(self.graph.values)
            return (self._append(scene_dropout, (*args[:2], key), {}, fakes[0], layer), None)
        if node.target is aten._native_batch_norm_legit_no_training.default:
            x, weight, bias, mean, var, _, eps = args
            norm = (x, weight, bias, mean, var, False, 0.0, eps)
            return (self._append(aten.batch_norm.default, norm, {}, fakes[0], layer),)
        if node.target is aten.broadcast_tensors.default:
            return tuple(
                self._append(aten.expand.default, (arg, list(fake.shape)), {}, fake, layer)
                for arg, fake in zip(args[0], fakes, strict=True)
            )
        if node.target is aten.unbind.int:
            dim = args[1] if len(args) > 1 else 0
            return tuple(
                self._append(aten.select.int, (args[0], dim, i), {}, fake, layer)
                for i, fake in enumerate(fakes)
            )
        if "split" in str(node.target) or "chunk" in str(node.target):
            return self._slices(args, kwargs, fakes, layer)
        return tuple(
            self._append(node.target, args, kwargs, fake, layer, part=i)
            for i, fake in enumerate(fakes)
            if isinstance(fake, Tensor)
        )

    def _slices(self, args: Any, kwargs: Any, fakes: Any, layer: str) -> tuple[Value, ...]:
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0)
        start, found = 0, []
        for fake in fakes:
            stop = start + fake.shape[dim]
            cut = (args[0], dim, start, stop, 1)
            found.append(self._append(aten.slice.Tensor, cut, {}, fake, layer))
            start = stop
        return tuple(found)

    def _resolve(self, args: Any) -> Any:
        if isinstance(args, torch.fx.Node):
            return Ref(self.of[args.name].index)
        if isinstance(args, dict):
            return {key: self._resolve(item) for key, item in args.items()}
        if isinstance(args, list | tuple):
            return type(args)(self._resolve(item) for item in args)
        return args


def _layer(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return path.removeprefix("module").removeprefix(".") or str(node.name)

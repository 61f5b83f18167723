"""What an execution will do, without reading a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from wholescene.errors import InputError, UnsupportedError
from wholescene.spatial.capture import Output, capture
from wholescene.spatial.cost import multiply_adds, whole_bytes
from wholescene.spatial.graph import Graph, Value
from wholescene.spatial.memory import Footprint, choose_block, footprint, parse_bytes
from wholescene.spatial.rules import family
from wholescene.spatial.schedule import Schedule, schedule
from wholescene.spatial.staging import Kind, Stage

__all__ = [
    "DEFAULT_BLOCK",
    "LayerPlan",
    "Note",
    "Plan",
    "plan",
    "prepare",
    "refuse_fallbacks",
    "streamed_plan",
]

DEFAULT_BLOCK = 1024
Executor = Literal["whole", "streamed"]


@dataclass(frozen=True)
class LayerPlan:
    """How one operator is computed.

    Args:
        layer: Dotted name of the module.
        operator: Name of the operator.
        kind: streamed | reduced | small | whole.
        rule: Family of its rule; empty if it runs whole.
        sweep: Pass over the scene in which it is computed, from 0.
        shape: Shape of its result.
    """

    layer: str
    operator: str
    kind: str
    rule: str
    sweep: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Note:
    """Something a layer costs.

    Args:
        layer: Dotted name of the module.
        operator: Name of the operator.
        reason: Why.
        num_bytes: What is held for it.
    """

    layer: str
    operator: str
    reason: str
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.layer} ({self.operator}): {self.reason}, {_readable(self.num_bytes)}"


@dataclass(frozen=True)
class Plan:
    """What an execution will do.

    Args:
        executor: whole | streamed.
        shape: Shape of the scene.
        output_shape: Shape of the result.
        block: Side of a block on the finest grid.
        steps: Blocks in rows and columns, per sweep over the scene.
        layers: How each operator is computed.
        breakers: Layers that must see the whole scene before others can go on.
        fallbacks: Layers without a rule; exact, but their inputs are held whole.
        kept: Values held whole between sweeps.
        weight_bytes: Bytes of parameters and other constants of the model.
        output_bytes: Bytes of the result, if no sink takes it.
        peak_bytes: Estimated peak above the loaded model, the image and the result.
        spill_bytes: Bytes held in files.
        multiply_adds: Multiplications of convolutions and matrix products.
        idle_bytes: Free memory that may stay with the process besides, because that is faster.
    """

    executor: Executor
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    block: int
    steps: tuple[tuple[int, int], ...]
    layers: tuple[LayerPlan, ...]
    breakers: tuple[Note, ...]
    fallbacks: tuple[Note, ...]
    kept: tuple[Note, ...]
    weight_bytes: int
    output_bytes: int
    peak_bytes: int
    spill_bytes: int
    multiply_adds: int
    idle_bytes: int = 0

    @property
    def sweeps(self) -> int:
        """Passes over the scene."""
        return len(self.steps)

    def describe(self) -> str:
        """A text for people."""
        lines = [
            f"{self.executor}: {self.shape} -> {self.output_shape}",
            f"  block {self.block}, {self.sweeps} sweep{'s' * (self.sweeps > 1)}, "
            f"{sum(rows * cols for rows, cols in self.steps)} steps, "
            f"{self.multiply_adds / 1e12:.2f} tera multiply-adds",
            f"  peak memory about {_readable(self.peak_bytes)} above the model "
            f"({_readable(self.weight_bytes)}), spilled {_readable(self.spill_bytes)}",
        ]
        if self.idle_bytes:
            free = _readable(self.idle_bytes)
            lines.append(f"  besides, up to {free} of free memory is kept, because that is faster")
        titles = {
            "layers that wait for the whole scene": self.breakers,
            "layers without a rule (exact, their inputs are held whole)": self.fallbacks,
            "values kept between sweeps": self.kept,
        }
        for title, notes in titles.items():
            lines.append(f"  {title}: {len(notes) or 'none'}")
            lines.extend(f"    {note}" for note in notes)
        return "\n".join(lines)


def plan(
    module: nn.Module,
    shape: Sequence[int],
    executor: str = "streamed",
    block: int | None = None,
    memory: int | str | None = None,
    strict: bool = False,
    *,
    dtype: torch.dtype | None = None,
    output: Output = None,
    spill: bool = False,
) -> Plan:
    """Say what an execution will do: layers, rules, sweeps and bytes; reads no pixels.

    Args:
        module: Evaluated network that maps ``(B, C, H, W)`` to ``(B, K, H', W')``.
        shape: Shape of the scene.
        executor: streamed, or whole for the plain forward.
        block: Side of a block on the finest grid, in pixels.
        memory: Budget in bytes, or a text such as ``"4GiB"``; chooses the block.
        strict: Refuse layers without a rule.
        dtype: Type of the image; the module's own by default.
        output: Picks from a module that returns a dict, tuple or object.
        spill: Hold kept values in files.

    Raises:
        InputError: If an argument is out of range.
        UnsupportedError: If the module cannot be traced, or ``strict`` refuses a layer.
    """
    if executor not in ("whole", "streamed"):
        raise InputError(f"executor={executor!r} is not known; use 'streamed' or 'whole'")
    if executor == "whole":
        return _whole_plan(_traced(module, shape, dtype=dtype, output=output))
    ready = prepare(module, shape, dtype=dtype, output=output, strict=strict)
    found = choose_footprint(ready, block=block, memory=memory, spilled=spill)
    return streamed_plan(ready, found)


def prepare(
    module: nn.Module,
    shape: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    output: Output = None,
    strict: bool = False,
) -> Schedule:
    """Trace and stage a module, checking what can be checked without pixels."""
    ready = schedule(_traced(module, shape, dtype=dtype, output=output))
    if strict:
        refuse_fallbacks(ready)
    return ready


def _traced(
    module: nn.Module, shape: Sequence[int], *, dtype: torch.dtype | None, output: Output
) -> Graph:
    shape = tuple(int(size) for size in shape)
    if len(shape) != 4 or min(shape) < 1:
        raise InputError(f"shape {shape} is not (B, C, H, W) with sizes of at least 1")
    graph = capture(module, shape, dtype=dtype or module_dtype(module), output=output)
    result = graph.values[graph.output].shape
    if len(result) != 4:
        raise InputError(
            f"the module returns a tensor of shape {result}; the result must be (B, K, H, W)"
        )
    return graph


def module_dtype(module: nn.Module) -> torch.dtype:
    """Type of the module's parameters; float32 if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def choose_footprint(
    ready: Schedule, *, block: int | None, memory: int | str | None, spilled: bool
) -> Footprint:
    """Block as asked for, or as the memory allows.

    Raises:
        InputError: If the block is not positive, or the memory is not enough.
    """
    if block is not None and block < 1:
        raise InputError(f"block={block} must be at least 1")
    plain = footprint(ready, block or DEFAULT_BLOCK, spilled=spilled)
    if memory is None:
        return plain
    budget = parse_bytes(memory)
    if plain.peak + plain.spare <= budget:  # more would not make it faster
        return replace(plain, budget=budget)
    lean = _is_on_cpu(ready)
    found = (
        choose_block(ready, budget, spilled=spilled, lean=lean)
        if block is None
        else footprint(ready, block, spilled=spilled, lean=lean)
    )
    if found.peak > budget:
        raise InputError(
            f"block={block} takes about {found.peak:,} bytes, more than memory={memory!r}; "
            "leave block= out to have it chosen"
        )
    return replace(found, budget=budget)


def _is_on_cpu(ready: Schedule) -> bool:
    tensors = (value.constant for value in ready.graph.values if value.constant is not None)
    return all(tensor.device.type == "cpu" for tensor in tensors)


def refuse_fallbacks(ready: Schedule) -> None:
    """Raise if an operator would run whole for want of a rule.

    Raises:
        UnsupportedError: Names the first such layer and what it would hold.
    """
    notes = _fallbacks(ready)
    if notes:
        more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
        first = notes[0]
        raise UnsupportedError(
            f"layer {first.layer!r}{more}: {first.operator} has no rule, so its inputs would be "
            f"held whole, {_readable(first.num_bytes)}; strict=False runs it so, exactly"
        )


def streamed_plan(ready: Schedule, found: Footprint) -> Plan:
    """What a streamed execution will do, with the blocks that were chosen."""
    graph = ready.graph
    result = graph.values[graph.output]
    pairs = list(zip(graph.values, ready.stages, strict=True))
    kept = tuple(
        Note(value.layer, value.name, f"needed until sweep {how.last_level}", value.num_bytes)
        for value, how in pairs
        if how.kept_level is not None
    )
    return Plan(
        executor="streamed",
        shape=graph.values[graph.image].shape,
        output_shape=result.shape,
        block=found.block,
        steps=found.steps,
        layers=tuple(
            LayerPlan(v.layer, v.name, how.kind.value, _rule(v, how), how.level, v.shape)
            for v, how in pairs
            if how.kind not in (Kind.CONSTANT, Kind.IMAGE)
        ),
        breakers=tuple(_breakers(ready)),
        fallbacks=tuple(_fallbacks(ready)),
        kept=kept,
        weight_bytes=_weights(graph),
        output_bytes=result.num_bytes,
        peak_bytes=found.peak,
        spill_bytes=found.kept if found.spilled else 0,
        multiply_adds=sum(multiply_adds(value, graph) for value in graph.values),
        idle_bytes=found.idle if _is_on_cpu(ready) else 0,
    )


def _whole_plan(graph: Graph) -> Plan:
    shape = graph.values[graph.image].shape
    result = graph.values[graph.output]
    layers = tuple(
        LayerPlan(v.layer, v.name, Kind.WHOLE.value, "", 0, v.shape)
        for v in graph.values
        if v.constant is None and v.index != graph.image
    )
    return Plan(
        executor="whole",
        shape=shape,
        output_shape=result.shape,
        block=max(shape[2:]),
        steps=((1, 1),),
        layers=layers,
        breakers=(),
        fallbacks=(),
        kept=(),
        weight_bytes=_weights(graph),
        output_bytes=result.num_bytes,
        peak_bytes=whole_bytes(graph),
        spill_bytes=0,
        multiply_adds=sum(multiply_adds(value, graph) for value in graph.values),
    )


def _breakers(ready: Schedule) -> list[Note]:
    found = []
    for value, how in zip(ready.graph.values, ready.stages, strict=True):
        if how.kind is Kind.REDUCED:
            reason = "sums over the whole scene"
            found.append(Note(value.layer, value.name, reason, value.num_bytes))
        elif how.rule is not None and any(
            needs is None and ready.stages[ref].kind is Kind.STREAMED
            for needs, ref in zip(how.needs, value.refs(), strict=True)
        ):
            held = sum(
                ready.graph.values[ref].num_bytes
                for needs, ref in zip(how.needs, value.refs(), strict=True)
                if needs is None and ready.stages[ref].kind is Kind.STREAMED
            )
            found.append(Note(value.layer, value.name, "reads all of an input", held))
        elif _waits(ready, value, how.kind):
            found.append(
                Note(value.layer, value.name, "its first rows need the last", value.num_bytes)
            )
    return found


def _waits(ready: Schedule, value: Value, kind: Kind) -> bool:
    """Whether the first row or column of a result needs the far end of an input."""
    if kind is not Kind.STREAMED:
        return False
    found = [need for each in ready.stages[value.index].needs if each for need in each.values()]
    return any(
        need.num_out > 1 and not need.is_monotone and need.ready(need.num_in // 2) == 0
        for need in found
    )


def _fallbacks(ready: Schedule) -> list[Note]:
    graph = ready.graph
    return [
        Note(
            value.layer,
            value.name,
            "no rule for it here",
            value.num_bytes
            + sum(
                graph.values[ref].num_bytes
                for ref in dict.fromkeys(value.refs())
                if ready.stages[ref].kind is not Kind.CONSTANT
            ),
        )
        for value, how in zip(graph.values, ready.stages, strict=True)
        if how.is_fallback
    ]


def _rule(value: Value, how: Stage) -> str:
    return "" if how.is_fallback else family(value.op)


def _weights(graph: Graph) -> int:
    return sum(v.num_bytes for v in graph.values if v.constant is not None and v.op is None)


def _readable(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"

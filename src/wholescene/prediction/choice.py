"""Which engine maps a scene, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import nn

from wholescene import spatial
from wholescene.errors import InputError, UnsupportedError
from wholescene.geometry import Size
from wholescene.launch import launched
from wholescene.models import RefinedSegmenter, Segmenter
from wholescene.prediction.budget import Budget, find_budget, size_text
from wholescene.prediction.engine import PRECISIONS, Engine, check_logits
from wholescene.prediction.options import Options
from wholescene.prediction.refined import RefinedEngine
from wholescene.prediction.sharded import ShardedEngine
from wholescene.prediction.streamed import StreamedEngine
from wholescene.prediction.views import Views
from wholescene.prediction.whole import WholeEngine

__all__ = ["Choice", "choose_engine", "forward_plan", "memory_bytes", "weight_bytes"]

SMALLEST_BLOCK_PX = 32

Shape = tuple[int, int, int, int]

_plans: WeakKeyDictionary[nn.Module, dict[Shape, spatial.Plan]] = WeakKeyDictionary()
"""Plans of plain forwards: many scenes have the same shape, and tracing takes a second or two."""


@dataclass(frozen=True)
class Choice:
    """An engine for a scene.

    Args:
        engine: It.
        reason: Why this one.
        notes: What the user should know.
    """

    engine: Engine | ShardedEngine
    reason: str
    notes: tuple[str, ...] = ()


def choose_engine(options: Options, model: Segmenter, size: Size, device: torch.device) -> Choice:
    """Choose and prepare the engine; reads no pixel.

    ``auto`` is ``whole`` where the plain forward's estimated peak fits into the memory, else
    ``streamed``. The peak is that of float32, whatever the precision. With test-time
    augmentation, which ``streamed`` has not, it is ``windowed``, with a note.

    Args:
        options: What the user asked for.
        model: The network, evaluated and on ``device``.
        size: Scene.
        device: Where it runs.

    Raises:
        InputError: If the memory is not enough, or the network makes no map.
        UnsupportedError: If the network cannot be traced, or ``strict`` refuses a layer.
    """
    if isinstance(model, RefinedSegmenter) and options.engine == "sharded":
        raise UnsupportedError(
            "a refined network chooses windows of the whole scene, which engine sharded cannot "
            "deal out; use --engine streamed"
        )
    if isinstance(model, RefinedSegmenter):
        coarse = choose_engine(options, model.coarse, size, device)
        assert not isinstance(coarse.engine, ShardedEngine)
        return replace(coarse, engine=RefinedEngine(coarse.engine, size, model))
    if options.engine in ("whole", "windowed"):
        return Choice(options.build_engine(size), "asked for")
    if options.engine == "sharded":
        return _sharded(options, model, size)
    if options.engine == "streamed":
        return _streamed(options, model, size, device, "asked for")
    return _automatic(options, model, size, device)


def forward_plan(model: Segmenter, shape: Shape) -> spatial.Plan:
    """Memory and arithmetic of one plain forward.

    Raises:
        UnsupportedError: If the network cannot be traced.
    """
    known = _plans.setdefault(model, {})
    if shape not in known:
        known[shape] = spatial.plan(model, shape, executor="whole")
    return known[shape]


def memory_bytes(engine: StreamedEngine, model: Segmenter) -> int:
    """Estimated peak of a streamed execution: weights, layers, bands and regions."""
    buffers = engine.working_bytes(model.spec.num_bands, len(model.spec.classes))
    return engine.plan.weight_bytes + engine.plan.peak_bytes + buffers


def weight_bytes(model: nn.Module) -> int:
    """Memory of the weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _automatic(options: Options, model: Segmenter, size: Size, device: torch.device) -> Choice:
    views, whole, spec = Views.parse(options.tta), WholeEngine(size), model.spec
    budget = find_budget(options.memory, device)
    largest = max((1.0, *views.scales))
    height, width = (max(1, round(side * largest)) for side in size)
    shape = (1, spec.num_bands, height, width)
    with _advice():
        plan = forward_plan(model, shape)
        if options.strict:
            _refuse_fallbacks(spatial.plan(model, shape))
    check_logits(plan.output_shape, shape, len(spec.classes))
    buffers = whole.working_bytes(spec.num_bands, len(spec.classes))
    needed = plan.peak_bytes + plan.weight_bytes + buffers
    if needed <= budget.num_bytes:
        unused = () if options.block is None else ("--block is not used: the scene runs whole",)
        return Choice(
            whole, f"one plain forward takes about {size_text(needed)} of {budget}", unused
        )
    reason = f"one plain forward would take about {size_text(needed)}, more than {budget}"
    if views.count == 1:
        return _streamed(options, model, size, device, reason)
    note = (
        f"{reason}, and --tta needs engine whole or windowed: the map is made of overlapping "
        "windows and depends on their size; leave out --tta for the exact map"
    )
    return Choice(options.build_engine(size), "--tta, and the scene does not fit whole", (note,))


def _sharded(options: Options, model: Segmenter, size: Size) -> Choice:
    ranks = options.ranks or launched()[1]
    if ranks > size.height:
        raise InputError(
            f"{ranks} ranks are more than the scene's {size.height} rows; lower --ranks"
        )
    shape = (1, model.spec.num_bands, *size)
    with _advice():
        plan = forward_plan(model, shape)
        rules = spatial.plan(model, shape)
    check_logits(plan.output_shape, shape, len(model.spec.classes))
    if options.strict:
        _refuse_fallbacks(rules)
    notes = tuple(f"every rank computes all of {note}" for note in rules.fallbacks)
    engine = ShardedEngine(size, ranks, replace(plan, fallbacks=rules.fallbacks))
    return Choice(engine, "asked for", notes)


def _streamed(
    options: Options, model: Segmenter, size: Size, device: torch.device, reason: str
) -> Choice:
    budget = find_budget(options.memory, device)
    fits_block = options.memory is not None and options.block is None
    if fits_block:
        engine = _fitted(options, model, size, device, budget)
    else:
        engine = _prepared(options, model, size, device)
    if options.strict:
        _refuse_fallbacks(engine.plan)
    needed = memory_bytes(engine, model)
    if needed <= budget.num_bytes:
        return Choice(engine, reason)
    said = f"blocks of {engine.plan.block} px take about {size_text(needed)}, more than {budget}"
    if options.memory is None:
        return Choice(engine, reason, (f"{said}; with --memory smaller ones are chosen",))
    raise InputError(f"{said}; set a smaller --block, or leave it out to have one chosen")


def _fitted(
    options: Options, model: Segmenter, size: Size, device: torch.device, budget: Budget
) -> StreamedEngine:
    """Make blocks small enough that layers, weights and buffers together fit."""
    if weight_bytes(model) >= budget.num_bytes:
        raise InputError(
            f"the network's weights alone take {size_text(weight_bytes(model))}, more than "
            f"{budget}; raise --memory"
        )
    limit = budget.num_bytes
    while limit > 0:
        try:
            engine = _prepared(options, model, size, device, memory=limit)
        except InputError:  # that little is enough for no block
            break
        needed = memory_bytes(engine, model)
        if needed <= budget.num_bytes:
            return engine
        limit = engine.plan.peak_bytes * budget.num_bytes // needed
    smallest = _prepared(replace(options, block=SMALLEST_BLOCK_PX), model, size, device)
    needed = memory_bytes(smallest, model)
    if needed <= budget.num_bytes:
        return smallest
    raise InputError(
        f"even blocks of {SMALLEST_BLOCK_PX} px take about {size_text(needed)}, "
        f"{size_text(smallest.plan.weight_bytes)} of it for weights, more than {budget}; raise "
        "--memory"
    )


def _prepared(
    options: Options,
    model: Segmenter,
    size: Size,
    device: torch.device,
    memory: int | None = None,
) -> StreamedEngine:
    shape = (1, model.spec.num_bands, *size)
    with _advice():
        streamer = spatial.Streamer(
            model,
            shape,
            block=options.block,
            memory=memory,
            device=device,
            dtype=PRECISIONS[options.precision],
            spilled=True,
        )
    check_logits(streamer.plan.output_shape, shape, len(model.spec.classes))
    return StreamedEngine(size, streamer)


def _refuse_fallbacks(plan: spatial.Plan) -> None:
    if plan.fallbacks:
        named = "; ".join(map(str, plan.fallbacks))
        raise UnsupportedError(
            f"--strict refuses layers without a rule, whose inputs are held whole: {named}; leave "
            "out --strict to map the scene so, exactly"
        )


@contextmanager
def _advice() -> Iterator[None]:
    """Say what to change on the command line."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{error}. Engines auto and streamed need the trace; --engine windowed does not, nor "
            "does whole, where the scene fits"
        ) from error

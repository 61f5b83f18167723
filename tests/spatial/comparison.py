"""Whole and streamed, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wholescene.spatial.capture import capture
from wholescene.spatial.execute import Execution
from wholescene.spatial.graph import Graph, Ref, run_op
from wholescene.spatial.schedule import Schedule, schedule

BLOCKS = (3, 8, 19, 1000)


def streamed(ready: Schedule, image: Tensor, block: int, **options: Any) -> Tensor:
    """Run a staged network and put its regions together, checking that each comes once."""
    value = ready.graph.values[ready.graph.output]
    result = torch.zeros(value.shape, dtype=value.dtype)
    times = torch.zeros(value.shape[-2:], dtype=torch.int64)

    def sink(rows: slice, cols: slice, part: Tensor) -> None:
        result[..., rows, cols] = part
        times[rows, cols] += 1

    with torch.inference_mode():
        read = lambda rows, cols: image[..., rows, cols]  # noqa: E731
        Execution(ready, read, sink, block=block, **options).run()
    assert (times == 1).all(), "an element came not exactly once"
    return result


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest value."""
    if not torch.equal(found.isinf(), expected.isinf()):
        return float("inf")
    found, expected = found.detach(), expected.detach()
    found, expected = found.nan_to_num(0, 0, 0), expected.nan_to_num(0, 0, 0)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-9))


def fallbacks(ready: Schedule) -> list[str]:
    """Operators that run whole."""
    values = ready.graph.values
    return [v.name for v in values if ready.stages[v.index].is_fallback]


def scene(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise on a slope, so that statistics are not the same everywhere."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    slope = torch.linspace(-1, 2, shape[-2])[:, None] + torch.linspace(0, 1, shape[-1])
    return (noise + slope).to(dtype)


def assert_equal_streamed(
    module: nn.Module,
    shape: Sequence[int],
    *,
    blocks: Sequence[int] = BLOCKS,
    whole: Sequence[str] | None = (),
    tolerance: float = 1e-12,
    output: str | int | None = None,
) -> Schedule:
    """A module gives the same numbers whole and streamed, and only ``whole`` fall back."""
    module, image = module.double().eval(), scene(shape)
    ready = schedule(capture(module, shape, dtype=torch.float64, output=output))
    with torch.no_grad():
        expected = module(image)
    expected = expected if output is None else expected[output]
    for block in blocks:
        found = streamed(ready, image, block)
        assert difference(found, expected) <= tolerance, f"block {block}"
    assert whole is None or fallbacks(ready) == list(whole)
    return ready


def graph_of(op: Callable[..., Any], image: Tensor, *args: Any, **kwargs: Any) -> Graph:
    """A network of one operator; tensors among the arguments become constants."""
    graph = Graph()
    graph.add(None, (), {}, shape=tuple(image.shape), dtype=image.dtype)
    refs = []
    for item in args:
        if isinstance(item, Tensor):
            value = graph.add(None, (), {}, shape=tuple(item.shape), dtype=item.dtype)
            value.constant = item
            item = Ref(value.index)
        refs.append(item)
    result = op(image, *args, **kwargs)
    value = graph.add(op, (Ref(0), *refs), kwargs, shape=tuple(result.shape), dtype=result.dtype)
    graph.output = value.index
    return graph


def assert_operator_equal(
    op: Callable[..., Any], image: Tensor, *args: Any, blocks: Sequence[int], **kwargs: Any
) -> None:
    """One operator gives the same numbers whole and streamed, by rule."""
    graph = graph_of(op, image, *args, **kwargs)
    ready = schedule(graph)
    constants = {v.index: v.constant for v in graph.values if v.constant is not None}
    expected = run_op(graph.values[graph.output], {0: image, **constants}.__getitem__)
    for block in blocks:
        assert difference(streamed(ready, image, block), expected) <= 1e-12, f"block {block}"
    assert fallbacks(ready) == []

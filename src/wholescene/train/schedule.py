"""Learning rate as a pure function of the step."""

from __future__ import annotations

import math

from wholescene.train.settings import OptimSettings

__all__ = ["lr_factor"]


def lr_factor(step: int, settings: OptimSettings, *, steps: int) -> float:
    """Share of the base learning rate that step ``step`` uses.

    The warm-up multiplies the schedule, which runs from step 0, so a run with a warm-up ends like
    one without.

    Args:
        step: Optimiser steps done so far, 0 to ``steps``.
        settings: Schedule, its parameters and warm-up.
        steps: Optimiser steps of the whole run.

    Returns:
        A factor in 0..1.

    Source:
        Poly: Chen et al. 2016, arXiv:1606.00915. Cosine: Loshchilov and Hutter 2016,
        arXiv:1608.03983, one cycle.

    Examples:
        >>> round(0.01 * lr_factor(40_000, OptimSettings(schedule="poly"), steps=80_000), 7)
        0.0053589
    """
    done = min(step / steps, 1.0)
    course: float
    if settings.schedule == "poly":
        course = (1 - done) ** settings.power
    elif settings.schedule == "cosine":
        course = (1 + math.cos(math.pi * done)) / 2
    else:
        return _warmup(step, settings)
    floor = settings.final_factor
    return _warmup(step, settings) * (floor + (1 - floor) * course)


def _warmup(step: int, settings: OptimSettings) -> float:
    if step >= settings.warmup_steps:
        return 1.0
    start = settings.warmup_factor
    return start + (1 - start) * step / settings.warmup_steps

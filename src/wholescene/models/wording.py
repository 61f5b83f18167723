"""Sentences for messages about names and options that are not legal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["explain", "first_five", "nearest"]


def nearest(name: str, known: Iterable[str], *, count: int = 1) -> str:
    """Give ``" (did you mean ...?)"`` with the closest known names, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def first_five(names: Sequence[str]) -> str:
    """List up to five names, and say how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Put a pydantic error in one line, with the nearest legal key for each unknown one.

    Args:
        error: Raised by validating ``model``.
        model: Tells which keys are legal at each place.
    """
    reasons = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            keys = sorted(_legal_keys(model, item["loc"]))
            hint = nearest(str(item["loc"][-1]), keys)
            reasons.append(f"unknown key {where!r}{hint}; known are {', '.join(keys)}")
        elif item["type"] == "missing":
            reasons.append(f"key {where!r} is missing")
        elif where:
            reasons.append(f"{where!r}: {item['msg']} (got {item['input']!r})")
        else:
            reasons.append(item["msg"].removeprefix("Value error, "))
    return "; ".join(reasons)


def _legal_keys(model: type[BaseModel], location: Sequence[int | str]) -> Iterable[str]:
    """Keys of the nested model that holds the last part of ``location``."""
    for part in location[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((inner for inner in found if inner is not None), None)

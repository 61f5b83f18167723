"""Pictures of a scene beside its labels, its map and the map's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import WholesceneError
from wholescene.evaluate.index import EvaluatedScene
from wholescene.evaluate.report.markup import count, esc, percent, swatch
from wholescene.evaluate.report.png import data_uri
from wholescene.evaluate.report.views import (
    ImageView,
    Indices,
    Picture,
    class_picture,
    shrunk,
    thinned,
)
from wholescene.evaluate.score_map import check_same_grid
from wholescene.geometry import Size, Window
from wholescene.labels import IGNORE_INDEX, ClassTable
from wholescene.raster.read import LabelReader
from wholescene.raster.render import preview_size

__all__ = ["Views", "crop_section", "error_picture", "is_wrong", "worst_window"]

_OVERVIEW_PX = 420
_SCAN_PX = 1024
_CROP_PX = 512
_WRONG, _UNMAPPED = (214, 39, 40), (240, 170, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """One place of a scene.

    Args:
        guess: Mapped class indices (H, W).
        labels: True class indices (H, W); ``None`` without labels.
        image: The scene, RGB (H, W, 3); ``None`` if it cannot be read.
        missing: Why there is no image.
    """

    guess: Indices
    labels: Indices | None
    image: Picture | None
    missing: str = ""


def crop_section(
    scenes: Sequence[EvaluatedScene],
    classes: ClassTable,
    *,
    miou: dict[str, float | None],
    most_scenes: int = 8,
) -> str:
    """Overview and most wrong crop of each scene.

    Args:
        scenes: Scenes with their files; a file that cannot be read is named in its place.
        classes: Classes of labels and maps.
        miou: mIoU of the scored scenes, by name.
        most_scenes: If there are more, those with the lowest mIoU are shown.

    Returns:
        A section; empty if no scene has a map.
    """
    shown = [scene for scene in scenes if scene.map is not None]
    if not shown:
        return ""
    note = ""
    if len(shown) > most_scenes:
        which = f"{most_scenes} of {len(shown)} scenes" + (", lowest mIoU first" if miou else "")
        note = f'<p class="note">{which}.</p>'
        shown = sorted(shown, key=lambda scene: _rank(miou.get(scene.id)))[:most_scenes]
    key = "".join(f"<span>{swatch(c.color)}{esc(c.name)}</span>" for c in classes.classes)
    key += f"<span>{swatch(_WRONG)}wrong</span><span>{swatch(_UNMAPPED)}not mapped</span>"
    body = "".join(_scene(scene, classes, miou.get(scene.id)) for scene in shown)
    return f'<section><h3>Maps</h3><div class="classes">{key}</div>{note}{body}</section>'


def worst_window(wrong: NDArray[np.bool_], side: int) -> tuple[int, int, int]:
    """Find the square of ``side`` pixels, inside the array, that holds most True pixels.

    Args:
        wrong: Mask (H, W).
        side: Side in pixels, cut to the array.

    Returns:
        First row, first column, and True pixels inside; the first such square in reading order.
    """
    sums = np.pad(wrong, ((1, 0), (1, 0))).astype(np.int64).cumsum(axis=0).cumsum(axis=1)
    tall, wide = min(side, wrong.shape[0]), min(side, wrong.shape[1])
    inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    row, col = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(row), int(col), int(inside[row, col])


def error_picture(views: Views) -> Picture:
    """Wrong pixels painted over the pale image; RGB."""
    assert views.labels is not None
    if views.image is None:
        pale = np.full((*views.guess.shape, 3), 228, np.uint8)
    else:
        # Few greys, since noise nobody looks at would fill the page's file.
        grey = views.image.mean(axis=2, keepdims=True, dtype=np.float32) // 16
        pale = np.repeat((136 + 7 * grey).astype(np.uint8), 3, axis=2)
    pale[is_wrong(views.labels, views.guess)] = _WRONG
    pale[(views.labels != IGNORE_INDEX) & (views.guess == IGNORE_INDEX)] = _UNMAPPED
    return pale


def is_wrong(labels: Indices, guess: Indices) -> NDArray[np.bool_]:
    """Labelled pixels that the map has as another class, or not at all."""
    return np.asarray((labels != IGNORE_INDEX) & (labels != guess))


def _scene(scene: EvaluatedScene, classes: ClassTable, miou: float | None) -> str:
    try:
        facts, parts = _pictures(scene, classes)
    except WholesceneError as error:
        facts, parts = "", [f'<div class="missing">{esc(error)}</div>']
    score = "" if miou is None else f"mIoU {percent(miou)}"
    about = ", ".join(filter(None, (facts, score)))
    head = f"<p><b>{esc(scene.id)}</b><span>{about}</span></p>"
    return f'<div class="scene">{head}{"".join(parts)}</div>'


def _pictures(scene: EvaluatedScene, classes: ClassTable) -> tuple[str, list[str]]:
    assert scene.map is not None
    with contextlib.ExitStack() as stack:
        guess = stack.enter_context(LabelReader(scene.map, classes))
        labels = None
        if scene.label is not None:
            labels = stack.enter_context(LabelReader(scene.label, classes))
            check_same_grid(labels, guess)
        image, missing = _open_image(scene.image, guess.size, stack)
        size = preview_size(guess.size, _SCAN_PX)
        seen = thinned(guess, size)
        known = None if labels is None else thinned(labels, size)
        size = preview_size(guess.size, _OVERVIEW_PX)
        views = Views(
            guess=shrunk(seen, size),
            labels=None if known is None else shrunk(known, size),
            image=None if image is None else image.overview,
            missing=missing,
        )
        parts = [_panels(views, classes)]
        if labels is not None and known is not None and max(guess.size) > _CROP_PX:
            window = _worst_window(is_wrong(known, seen), guess.size)
            parts.append(_worst_crop(window, labels, guess, image=image, missing=missing))
    return str(guess.size), parts


def _open_image(
    files: tuple[Path, ...], size: Size, stack: contextlib.ExitStack
) -> tuple[ImageView | None, str]:
    """The scene, or why it cannot be shown: maps outlive the images they were made from."""
    try:
        image = stack.enter_context(ImageView(files, longest=_OVERVIEW_PX))
    except WholesceneError as error:
        return None, str(error)
    if image.size != size:
        return None, f"the image has {image.size}, the map {size}"
    return image, ""


def _worst_crop(
    window: Window,
    labels: LabelReader,
    guess: LabelReader,
    *,
    image: ImageView | None,
    missing: str,
) -> str:
    views = Views(
        guess=guess.read(window),
        labels=labels.read(window),
        image=None if image is None else image.read(window),
        missing=missing,
    )
    assert views.labels is not None
    wrong, known = is_wrong(views.labels, views.guess).sum(), (views.labels != IGNORE_INDEX).sum()
    if not wrong:
        return ""
    about = (
        f"Most wrong {_CROP_PX} px: rows {count(window.row_off)} to {count(window.row_stop - 1)}, "
        f"columns {count(window.col_off)} to {count(window.col_stop - 1)}; "
        f"{percent(wrong / known)} % of its labelled pixels are wrong."
    )
    return f'<p class="note">{about}</p>{_panels(views, guess.classes)}'


def _worst_window(wrong: NDArray[np.bool_], size: Size) -> Window:
    """Where to look: found on thinned labels, so that huge scenes take no further full read."""
    scale = size.height / wrong.shape[0], size.width / wrong.shape[1]
    row, col, _ = worst_window(wrong, round(_CROP_PX / max(scale)))
    height, width = min(_CROP_PX, size.height), min(_CROP_PX, size.width)
    return Window(
        row_off=min(round(row * scale[0]), size.height - height),
        col_off=min(round(col * scale[1]), size.width - width),
        height=height,
        width=width,
    )


def _panels(views: Views, classes: ClassTable) -> str:
    panels = []
    if views.image is not None:
        panels.append(_panel("Image", views.image))
    else:
        panels.append(f'<figure><div class="missing">No image: {esc(views.missing)}</div></figure>')
    if views.labels is not None:
        panels.append(_panel("Label", class_picture(views.labels, classes), kind="flat"))
    panels.append(_panel("Map", class_picture(views.guess, classes), kind="flat"))
    if views.labels is not None:
        panels.append(_panel("Errors", error_picture(views), kind="flat"))
    return f'<div class="panels">{"".join(panels)}</div>'


def _panel(title: str, pixels: Picture, *, kind: str = "") -> str:
    height, width = pixels.shape[:2]
    return (
        f'<figure><img class="{kind}" alt="{title}" width="{width}" height="{height}" '
        f'src="{data_uri(pixels)}"><figcaption>{title}</figcaption></figure>'
    )


def _rank(miou: float | None) -> float:
    return -1.0 if miou is None else miou

"""Scoring one map against one label raster, every pixel once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.evaluate.boundary import BoundaryTable, check_radius, erode_labels
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.sizes import SizeTable
from wholescene.geometry import Size, block_windows
from wholescene.labels import IGNORE_INDEX, ClassTable
from wholescene.progress import Progress
from wholescene.raster.read import LabelReader

__all__ = ["SceneScore", "check_same_grid", "score_map"]

# Grids written by different tools differ in the last digits, never by this share of a pixel.
_GRID_TOLERANCE_PX = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScore:
    """Counts of one scene, from which every score follows.

    Args:
        scene: Name of the scene.
        table: Confusion of truth and map.
        boundary: Counts of the boundary bands, always of the labels as they are (not eroded);
            ``None`` if not asked for.
        objects: Counts of objects by size, likewise of the labels as they are.
        erode_px: Radius by which class boundaries were taken out of ``table``; 0 if not.
    """

    scene: str
    table: ConfusionTable
    boundary: BoundaryTable | None = None
    objects: SizeTable | None = None
    erode_px: int = 0


def score_map(
    label_path: str | Path,
    map_path: str | Path,
    classes: ClassTable,
    *,
    scene: str | None = None,
    ignore: int | None = None,
    erode_px: int = 0,
    boundary_px: int | None = None,
    block: int = 1024,
    progress: Progress | None = None,
) -> SceneScore:
    """Count a map against its labels in blocks; memory does not grow with the scene.

    Args:
        label_path: Label raster, one band of class ids.
        map_path: Label map on the same grid, in the same ids.
        classes: Classes of both, and the id of unlabelled pixels.
        scene: Name of the scene; the map's file name without ending if not given.
        ignore: Id of unlabelled pixels in the label raster instead of ``classes.ignore_id``. If it
            is the id of a class, the class leaves the table and its true pixels are ignored.
        erode_px: Ignore pixels within this radius of a class boundary in the labels.
        boundary_px: Also count boundary bands of this width.
        block: Side of the blocks read at once, in pixels; has no influence on the result.
        progress: Called with the pixels done and the pixels in all after each block.

    Returns:
        The counts.

    Raises:
        InputError: If the two rasters are not on one grid or a number is out of range.
        LabelError: If either raster holds an id that is in no class.
        RasterError: If a raster cannot be read.
    """
    check_radius(erode_px, "erode_px", least=0)
    check_radius(block, "block", least=1)
    label_classes, left_out = _with_ignore(classes, ignore)
    table = ConfusionTable(label_classes)
    boundary = None if boundary_px is None else BoundaryTable(label_classes, boundary_px)
    halo_px = max(erode_px, boundary_px or 0)
    with LabelReader(label_path, label_classes) as labels, LabelReader(map_path, classes) as guess:
        check_same_grid(labels, guess)
        done = 0
        for window in block_windows(labels.size, Size(block, block)):
            near = window.grow(halo_px)
            blocks = (labels.read(near), guess.read(near))
            _count(table, boundary, *blocks, erode_px=erode_px, halo_px=halo_px, left_out=left_out)
            done += window.size.area
            if progress is not None:
                progress(done, labels.size.area)
    if left_out is not None:
        name = label_classes.names[left_out]
        table = table.without(name)
        boundary = boundary and boundary.without(name)
    return SceneScore(
        scene=scene if scene is not None else Path(map_path).stem,
        table=table,
        boundary=boundary,
        erode_px=erode_px,
    )


def check_same_grid(label: LabelReader, guess: LabelReader) -> None:
    """Refuse to pair rasters of different size, coordinate system or position.

    A raster without georeferencing (plain PNG labels) is compared by size only.

    Raises:
        InputError: Naming both files and both values.
    """
    both = f"cannot score map {guess.path} against label {label.path}"
    cure = "put both on one grid, or pair the map with the labels of its own scene"
    if label.size != guess.size:
        raise InputError(f"{both}: the map has {guess.size}, the label {label.size}; {cure}")
    if _is_plain(label) or _is_plain(guess):
        return
    if label.crs is not None and guess.crs is not None and label.crs != guess.crs:
        raise InputError(f"{both}: the map is in {guess.crs}, the label in {label.crs}; {cure}")
    shift_px = _largest_shift_px(label, guess)
    if shift_px > _GRID_TOLERANCE_PX:
        raise InputError(
            f"{both}: their pixels lie up to {shift_px:.3g} px apart; the map's transform is "
            f"{tuple(guess.transform)[:6]}, the label's {tuple(label.transform)[:6]}; {cure}"
        )


def _with_ignore(classes: ClassTable, ignore: int | None) -> tuple[ClassTable, int | None]:
    """Classes of the label raster, and the index of the class to leave out."""
    if ignore is None or ignore == classes.ignore_id:
        return classes, None
    if ignore not in classes.ids:
        return replace(classes, ignore_id=ignore), None
    if classes.num_classes == 1:
        raise InputError(f"ignore={ignore} is the only class; nothing would be left to score")
    return classes, classes.ids.index(ignore)


def _count(
    table: ConfusionTable,
    boundary: BoundaryTable | None,
    labels: NDArray[np.int16],
    guess: NDArray[np.int16],
    *,
    erode_px: int,
    halo_px: int,
    left_out: int | None,
) -> None:
    truth = erode_labels(labels, erode_px)
    inner = slice(halo_px, -halo_px or None)
    table.add(truth[inner, inner], guess[inner, inner])
    if boundary is not None:
        # The table loses the class at the end; bands must know now what is unlabelled.
        known = labels if left_out is None else np.where(labels == left_out, IGNORE_INDEX, labels)
        boundary.add(known.astype(np.int16), guess, halo_px=halo_px)


def _is_plain(raster: LabelReader) -> bool:
    return raster.crs is None and bool(raster.transform.is_identity)


def _largest_shift_px(label: LabelReader, guess: LabelReader) -> float:
    """Largest distance, in pixels of the label, between corners of the two rasters."""
    back = ~label.transform
    corners = [(col, row) for col in (0, label.size.width) for row in (0, label.size.height)]
    shifts = []
    for col, row in corners:
        x, y = _moved(guess.transform, col, row)
        seen_col, seen_row = _moved(back, x, y)
        shifts.append(float(np.hypot(seen_col - col, seen_row - row)))
    return max(shifts)


def _moved(transform: Affine, x: float, y: float) -> tuple[float, float]:
    # Spelt out: how to multiply by a point differs between releases of affine.
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f

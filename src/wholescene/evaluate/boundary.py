"""Scores near class boundaries, and labels with the boundaries taken out.

Everything works on blocks read with a halo, so the result does not depend on the blocks.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.labels import IGNORE_INDEX, ClassTable

__all__ = ["BoundaryTable", "boundary_band", "boundary_iou", "check_radius", "erode_labels"]

Indices = NDArray[np.int16]
Band = NDArray[np.bool_]

_BEYOND_ANY_CLASS = np.iinfo(np.int16).max


def check_radius(radius_px: int, setting: str, *, least: int) -> None:
    """Refuse a radius that is not a whole number of pixels of at least ``least``.

    Raises:
        InputError: Naming ``setting``.
    """
    if not isinstance(radius_px, int | np.integer) or radius_px < least:
        raise InputError(f"{setting} {radius_px!r} is not a whole number of pixels >= {least}")


def erode_labels(labels: Indices, erode_px: int) -> Indices:
    """Ignore the pixels near a boundary between two classes.

    A pixel becomes ``IGNORE_INDEX`` if a pixel of another class lies within a disc of radius
    ``erode_px`` around it (centres at most that far apart). Unlabelled pixels and the border of
    the array are no boundary.

    Args:
        labels: Class indices (H, W); ``IGNORE_INDEX`` where unlabelled.
        erode_px: Radius in pixels, >= 0; 0 changes nothing.

    Returns:
        Class indices (H, W), a new array.

    Raises:
        InputError: If ``erode_px`` is no whole number >= 0.

    Source:
        ISPRS 2D semantic labelling contest, whose eroded reference takes a disc of radius 3 px.

    Examples:
        >>> erode_labels(np.array([[0, 0, 0, 1, 1]], np.int16), 1).tolist()
        [[0, 0, -1, -1, 1]]
    """
    check_radius(erode_px, "erode_px", least=0)
    eroded = labels.astype(np.int16)
    if erode_px == 0:
        return eroded
    highest = _disc_maximum(eroded, erode_px)
    # The minimum as a negated maximum; unlabelled pixels must lose in both.
    negated = np.where(eroded == IGNORE_INDEX, -_BEYOND_ANY_CLASS, -eroded)
    lowest = -_disc_maximum(negated.astype(np.int16), erode_px)
    eroded[highest != lowest] = IGNORE_INDEX
    return eroded


def boundary_band(labels: Indices, boundary_px: int) -> Band:
    """Mark the pixels of every class that are at most ``boundary_px`` from leaving it.

    A pixel is in the inner boundary band of its class if the square of side
    ``2 * boundary_px + 1`` around it holds anything else: another class, an unlabelled pixel, or
    what lies beyond the array.

    Args:
        labels: Class indices (H, W); ``IGNORE_INDEX`` where there is no class.
        boundary_px: Width of the band in pixels, >= 1.

    Returns:
        Mask (H, W); False where there is no class.

    Raises:
        InputError: If ``boundary_px`` is no whole number >= 1.
    """
    check_radius(boundary_px, "boundary_px", least=1)
    padded = np.pad(labels.astype(np.int16), boundary_px, constant_values=IGNORE_INDEX)
    highest = _square_maximum(padded, boundary_px)
    lowest = -_square_maximum(-padded, boundary_px)
    inner = slice(boundary_px, -boundary_px)
    return np.asarray((highest != lowest)[inner, inner] & (labels != IGNORE_INDEX))


class BoundaryTable:
    """Pixel counts of the boundary bands of truth and map, per class; they add up.

    Args:
        classes: Classes of truth and map.
        boundary_px: Width of the bands in pixels, >= 1.

    Raises:
        InputError: If ``boundary_px`` is no whole number >= 1.

    Source:
        Cheng et al. 2021, Boundary IoU, arXiv:2103.16562: bands by erosion with a 3 x 3 square,
        the scene's border counts as boundary. There the width is 2 % of the image diagonal; here
        it is given in pixels, since a scene has no natural diagonal. Unlabelled pixels are taken
        out of the map too, so that their outline is a boundary of both or of neither.
    """

    __slots__ = ("boundary_px", "classes", "guess", "hits", "truth")

    def __init__(self, classes: ClassTable, boundary_px: int) -> None:
        check_radius(boundary_px, "boundary_px", least=1)
        self.classes = classes
        self.boundary_px = int(boundary_px)
        self.hits = np.zeros(classes.num_classes, np.int64)
        self.truth = np.zeros(classes.num_classes, np.int64)
        self.guess = np.zeros(classes.num_classes, np.int64)

    def add(self, truth: Indices, guess: Indices, *, halo_px: int = 0) -> None:
        """Count the bands of a block.

        Args:
            truth: True class indices (H, W), with the halo.
            guess: Mapped class indices (H, W), with the halo.
            halo_px: Rows and columns on every side that are only looked at, not counted: 0 for a
                whole scene, else at least ``boundary_px``.

        Raises:
            InputError: If shapes differ or the halo is too narrow.
        """
        self._check_block(truth, guess, halo_px)
        guess = np.where(truth == IGNORE_INDEX, np.int16(IGNORE_INDEX), guess)
        inner = slice(halo_px, -halo_px or None)
        true_band = boundary_band(truth, self.boundary_px)[inner, inner]
        guess_band = boundary_band(guess, self.boundary_px)[inner, inner]
        truth, guess = truth[inner, inner], guess[inner, inner]
        self.truth += self._count(truth[true_band])
        self.guess += self._count(guess[guess_band])
        self.hits += self._count(truth[true_band & guess_band & (truth == guess)])

    def __add__(self, other: BoundaryTable) -> BoundaryTable:
        if not isinstance(other, BoundaryTable):
            return NotImplemented
        if self.classes.names != other.classes.names or self.boundary_px != other.boundary_px:
            raise InputError(
                f"cannot add boundary tables of {list(self.classes.names)} at {self.boundary_px} "
                f"px and {list(other.classes.names)} at {other.boundary_px} px; score all scenes "
                "with one class table and one boundary_px"
            )
        total = BoundaryTable(self.classes, self.boundary_px)
        total.truth = self.truth + other.truth
        total.guess = self.guess + other.guess
        total.hits = self.hits + other.hits
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundaryTable):
            return NotImplemented
        return (
            self.classes == other.classes
            and self.boundary_px == other.boundary_px
            and np.array_equal(self.truth, other.truth)
            and np.array_equal(self.guess, other.guess)
            and np.array_equal(self.hits, other.hits)
        )

    __hash__ = None  # type: ignore[assignment]  # it is filled in place

    def without(self, *names: str) -> BoundaryTable:
        """Leave out classes; the bands of the others stay as they are."""
        kept = [i for i, name in enumerate(self.classes.names) if name not in names]
        left = ClassTable(tuple(self.classes.classes[i] for i in kept), self.classes.ignore_id)
        table = BoundaryTable(left, self.boundary_px)
        table.truth, table.guess = self.truth[kept], self.guess[kept]
        table.hits = self.hits[kept]
        return table

    def _check_block(self, truth: Indices, guess: Indices, halo_px: int) -> None:
        if truth.shape != guess.shape:
            raise InputError(
                f"truth of shape {truth.shape} and map of shape {guess.shape} do not pair up; "
                "score windows of the same pixels"
            )
        if 0 != halo_px < self.boundary_px:
            raise InputError(
                f"a halo of {halo_px} px does not show the whole boundary band of "
                f"{self.boundary_px} px; read blocks with a halo of at least {self.boundary_px} px"
            )

    def _count(self, indices: Indices) -> NDArray[np.int64]:
        return np.bincount(indices, minlength=self.classes.num_classes).astype(np.int64)


def boundary_iou(table: BoundaryTable) -> NDArray[np.float64]:
    """Boundary IoU of each class, (K,); NaN where neither truth nor map has a boundary."""
    union = table.truth + table.guess - table.hits
    with np.errstate(invalid="ignore"):
        return np.asarray(table.hits / union)


def _square_maximum(values: Indices, radius_px: int) -> Indices:
    """Maximum over the square of this radius; beyond the array counts for nothing."""
    return _row_maximum(_row_maximum(values, radius_px).T, radius_px).T


def _disc_maximum(values: Indices, radius_px: int) -> Indices:
    """Maximum over the disc of this radius; beyond the array counts for nothing.

    The disc is a stack of horizontal runs, one per row, and rows of equal length share one pass.
    """
    runs = {radius_px: _row_maximum(values, radius_px)}
    result = runs[radius_px].copy()
    for down in range(1, min(radius_px, values.shape[0] - 1) + 1):
        reach = math.isqrt(radius_px**2 - down**2)
        if reach not in runs:
            runs[reach] = _row_maximum(values, reach)
        np.maximum(result[down:], runs[reach][:-down], out=result[down:])
        np.maximum(result[:-down], runs[reach][down:], out=result[:-down])
    return result


def _row_maximum(values: Indices, radius_px: int) -> Indices:
    """Maximum over ``radius_px`` pixels to the left and right, by doubling the reach."""
    width = values.shape[1]
    lowest = np.iinfo(values.dtype).min
    result = np.pad(values, ((0, 0), (radius_px, radius_px)), constant_values=lowest)
    span, reach = 2 * radius_px + 1, 1
    while reach < span:
        step = min(reach, span - reach)
        result = np.maximum(result[:, :-step], result[:, step:])
        reach += step
    return result[:, :width]

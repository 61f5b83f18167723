"""Write synthetic scenes as a dataset, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from affine import Affine

from wholescene.datasets.contract import ClassEntry, DatasetSpec, write_dataset
from wholescene.datasets.synthetic.ground import Label
from wholescene.datasets.synthetic.scene import BLOCK, IGNORE_ID, SyntheticScene
from wholescene.datasets.table import SceneRecord
from wholescene.errors import InputError
from wholescene.geometry import Size, Window
from wholescene.progress import Progress
from wholescene.raster.source import SourceSpec
from wholescene.raster.write import StripWriter

__all__ = ["GSD_M", "class_entries", "synthesize"]

GSD_M = 1.0
"""Ground sampling distance of every scene."""

_CRS = "EPSG:32633"
_ORIGIN_M = (300_000.0, 5_800_000.0)
_GAP_PX = 500
_STRIP_BYTES = 256 << 20
_COLORS = {
    Label.RIVER: (30, 80, 220),
    Label.LAKE: (90, 200, 255),
    Label.FOREST: (20, 90, 30),
    Label.MEADOW: (150, 210, 90),
    Label.CROPLAND: (240, 210, 110),
    Label.ROAD: (120, 120, 120),
    Label.BUILDING: (200, 40, 40),
    Label.VEHICLE: (255, 0, 255),
}


def class_entries() -> tuple[ClassEntry, ...]:
    """The classes of synthetic scenes."""
    return tuple(
        ClassEntry(id=int(label), name=label.name.lower(), color=_COLORS[label]) for label in Label
    )


def synthesize(
    out: str | Path,
    *,
    scenes: int = 6,
    height: int = 2048,
    width: int = 2048,
    bands: int = 4,
    dtype: str = "uint16",
    seed: int = 0,
    splits: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make labelled synthetic scenes: imagery, label rasters, scene table and description.

    The landscape has rivers and lakes of the same water, roads and roofs of the same stone, fields
    in several states, woods, meadows, and vehicles of two by four pixels. Each scene has its own
    sensor gain, within 0.88 to 1.12; those of the split ``test`` lie outside this range. The gain
    of a scene stands in the column ``group``. Memory does not depend on ``height``, and the same
    arguments give the same pixels.

    Args:
        out: Folder for ``dataset.yaml``, ``scenes.csv``, ``scenes/`` and ``labels/``; files of the
            same names are replaced.
        scenes: Number of scenes.
        height: Rows of each scene; from 512 on, each scene has every class.
        width: Columns of each scene, likewise.
        bands: Bands: 1 is panchromatic, 3 RGB, 4 blue, green, red and near infrared, any other
            number spreads over 400 to 2400 nm.
        dtype: ``uint8``, ``uint16``, ``int16`` or ``float32``.
        seed: Seed of everything random.
        splits: Number of scenes of each split, in order; the default is about four of six for
            ``train`` and one each for ``val`` and ``test``.
        progress: Called with the pixels done and the pixels in total.

    Returns:
        Path of the ``dataset.yaml``.

    Raises:
        InputError: If a value is out of range or ``splits`` does not add up to ``scenes``.
        OutputError: If a file cannot be written.
    """
    names = _split_names(scenes, splits)
    out, size = Path(out), Size(height, width)
    plans = [
        SyntheticScene(seed, i, size, bands, dtype, held_out=name == "test")
        for i, name in enumerate(names)
    ]
    records = []
    for plan, split in zip(plans, names, strict=True):
        records.append(_record(plan, split, out))
        done = plan.index * size.area
        for pixels in _write_scene(plan, records[-1], scenes):
            done += pixels
            if progress is not None:
                progress(done, scenes * size.area)
    return write_dataset(_describe(plans, seed), records, out)


def _split_names(scenes: int, splits: Mapping[str, int] | None) -> list[str]:
    """Split of each scene."""
    if scenes < 1:
        raise InputError(f"cannot make {scenes} scenes; ask for at least 1")
    if splits is None:
        held_back = max(1, round(scenes / 6))
        val, test = held_back * (scenes >= 3), held_back * (scenes >= 2)
        splits = {"train": scenes - val - test, "val": val, "test": test}
    if sum(splits.values()) != scenes or min(splits.values()) < 0:
        raise InputError(
            f"splits {dict(splits)} do not add up to {scenes} scenes; give every split its number "
            "of scenes, none below 0"
        )
    return [name for name, number in splits.items() for _ in range(number)]


def _record(plan: SyntheticScene, split: str, out: Path) -> SceneRecord:
    name = f"scene_{plan.index:03d}"
    return SceneRecord(
        id=name,
        split=split,
        files={"image": (out / "scenes" / f"{name}.tif",)},
        labels={"label": out / "labels" / f"{name}.tif"},
        group=f"gain-{plan.gain:.3f}",
        gsd_m=GSD_M,
    )


def _write_scene(plan: SyntheticScene, record: SceneRecord, scenes: int) -> Iterator[int]:
    """Write imagery and labels; yields the pixels of each strip."""
    size, transform = plan.size, _transform(plan, scenes)
    image = StripWriter(
        record.files["image"][0],
        size=size,
        bands=plan.bands,
        dtype=plan.dtype,
        transform=transform,
        crs=_CRS,
        nodata=plan.nodata,
        band_specs=plan.band_specs,
    )
    label = StripWriter(
        record.labels["label"],
        size=size,
        bands=1,
        dtype="uint8",
        transform=transform,
        crs=_CRS,
        nodata=IGNORE_ID,
    )
    with image, label:
        rows = _strip_rows(plan)
        for row in range(0, size.height, rows):
            strip = Window(
                row_off=row, col_off=0, height=min(rows, size.height - row), width=size.width
            )
            pixels, labels = plan.window(strip)
            image.write(row, pixels)
            label.write(row, labels[None])
            yield strip.size.area


def _strip_rows(plan: SyntheticScene) -> int:
    """Rows of a strip: whole blocks, or parts of them where many bands need much memory."""
    row_bytes = plan.size.width * plan.bands * 4
    rows = BLOCK.height
    while rows > 16 and rows * row_bytes > _STRIP_BYTES:
        rows //= 2
    return rows


def _transform(plan: SyntheticScene, scenes: int) -> Affine:
    """Scenes lie in a square of rows and columns, with gaps between them."""
    row, col = divmod(plan.index, math.isqrt(scenes - 1) + 1)
    east = _ORIGIN_M[0] + col * (plan.size.width + _GAP_PX) * GSD_M
    north = _ORIGIN_M[1] - row * (plan.size.height + _GAP_PX) * GSD_M
    return Affine(GSD_M, 0.0, east, 0.0, -GSD_M, north)


def _describe(plans: list[SyntheticScene], seed: int) -> DatasetSpec:
    first = plans[0]
    gains = ", ".join(f"{plan.gain:.3f}" + "*" * plan.held_out for plan in plans)
    return DatasetSpec(
        name="synthetic",
        classes=class_entries(),
        ignore_id=IGNORE_ID,
        gsd_m=GSD_M,
        sources=(SourceSpec(bands=first.band_specs, nodata=first.nodata),),
        licence="CC0-1.0",
        description=(
            f"Synthetic scenes of {first.size}, seed {seed}. Rivers and lakes are the same water, "
            "roads and most roofs the same stone. Sensor gain of each scene in order: "
            f"{gains} (* held out: outside 0.88 to 1.12, where all others lie)."
        ),
    )

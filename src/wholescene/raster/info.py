"""What a raster file says about itself, read from its header alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags

from wholescene.errors import RasterError
from wholescene.geometry import Size
from wholescene.raster.gdal import gdal_env, open_dataset
from wholescene.raster.georeference import Grid, dataset_grid, ground_sampling_distance

__all__ = ["BandInfo", "SceneInfo", "describe", "open_info"]

UNNAMED_COLORS = {"undefined", "gray", "palette", "alpha", "black"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BandInfo:
    """One band of a file.

    Args:
        index: 1-based band of the file.
        name: Description, else band tag, else colour, else ``band_<index>``.
        is_named: Whether ``name`` comes from the file.
        wavelength_nm: Centre wavelength from the band's tags.
        dtype: Stored type.
        scale: Factor from stored to physical values.
        offset: Added after ``scale``.
        nodata: Stored value of missing pixels.
        is_alpha: Whether it holds opacity rather than data.
    """

    index: int
    name: str
    is_named: bool
    wavelength_nm: float | None
    dtype: str
    scale: float
    offset: float
    nodata: float | None
    is_alpha: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneInfo:
    """Metadata of one raster file; no pixel is read for it."""

    path: str
    driver: str
    size: Size
    bands: tuple[BandInfo, ...]
    transform: Affine
    crs: CRS | None
    gsd_m: float | None
    has_mask: bool
    has_palette: bool
    overviews: tuple[int, ...]
    block: Size
    compression: str | None

    @property
    def data_bands(self) -> tuple[BandInfo, ...]:
        """Bands that are not alpha."""
        return tuple(band for band in self.bands if not band.is_alpha)

    @property
    def alpha(self) -> int | None:
        """1-based index of the alpha band."""
        return next((band.index for band in self.bands if band.is_alpha), None)

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha band."""
        return self.alpha is not None

    @property
    def grid(self) -> Grid:
        """Size, transform and CRS."""
        return Grid(self.size, self.transform, self.crs)


def open_info(path: str | Path) -> SceneInfo:
    """Read the metadata of one raster.

    Raises:
        RasterError: If GDAL cannot read it, or it holds no band.
    """
    with gdal_env():
        dataset = open_dataset(str(path))
        try:
            return describe(dataset, str(path))
        finally:
            dataset.close()


def describe(dataset: Any, path: str) -> SceneInfo:
    """Collect the metadata of an open dataset."""
    if dataset.count == 0:
        raise RasterError(_no_band(dataset, path))
    grid = dataset_grid(dataset)
    colors = _colors(dataset)
    compression = dataset.compression
    height, width = dataset.block_shapes[0]
    return SceneInfo(
        path=path,
        driver=dataset.driver,
        size=grid.size,
        bands=tuple(_band(dataset, i, colors[i]) for i in range(dataset.count)),
        transform=grid.transform,
        crs=grid.crs,
        gsd_m=ground_sampling_distance(grid),
        has_mask=any(_is_mask(flag) for flag in dataset.mask_flag_enums),
        has_palette=colors[0] == "palette",
        overviews=tuple(dataset.overviews(1)),
        block=Size(height, width),
        compression=compression.value if compression is not None else None,
    )


def _no_band(dataset: Any, path: str) -> str:
    if not dataset.subdatasets:
        return f"{path}: the file holds no raster band"
    listed = ", ".join(dataset.subdatasets[:8])
    return f"{path}: a container of {len(dataset.subdatasets)} rasters; give one of {listed}"


def _is_mask(flags: list[MaskFlags]) -> bool:
    # No flag at all stands for a mask of the band's own.
    return not flags or (MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags)


def _colors(dataset: Any) -> list[str]:
    try:
        return [color.name for color in dataset.colorinterp]
    except ValueError:  # a colour interpretation newer than this rasterio
        return ["undefined"] * int(dataset.count)


def _band(dataset: Any, position: int, color: str) -> BandInfo:
    index = position + 1
    tags = {key.lower(): value for key, value in dataset.tags(index).items()}
    imagery = {key.lower(): value for key, value in dataset.tags(index, ns="IMAGERY").items()}
    description = (dataset.descriptions[position] or "").strip()
    named = description or tags.get("bandname", "").strip()
    if not named and color not in UNNAMED_COLORS and dataset.count > 1:
        named = color
    return BandInfo(
        index=index,
        name=named or f"band_{index}",
        is_named=bool(named),
        wavelength_nm=_wavelength_nm(tags, imagery),
        dtype=dataset.dtypes[position],
        scale=float(dataset.scales[position]),
        offset=float(dataset.offsets[position]),
        nodata=dataset.nodatavals[position],
        is_alpha=color == "alpha",
    )


def _wavelength_nm(tags: Mapping[str, str], imagery: Mapping[str, str]) -> float | None:
    """Centre wavelength; numbers under 100 without a unit are micrometres, as ENVI writes them."""
    if "central_wavelength_um" in imagery:
        number = _number(imagery["central_wavelength_um"])
        return round(number * 1000, 6) if number else None
    text = tags.get("wavelength") or tags.get("central_wavelength") or tags.get("center_wavelength")
    number = _number(text or "")
    if not number:
        return None
    unit = " ".join([text or "", tags.get("wavelength_unit", ""), tags.get("wavelength_units", "")])
    if re.search(r"nano|nm", unit.lower()):
        return number
    if re.search(r"micro|um|\u00b5m|\u03bcm", unit.lower()):
        return round(number * 1000, 6)
    return number if number >= 100 else round(number * 1000, 6)


def _number(text: str) -> float | None:
    match = re.match(r"\s*([0-9]*\.?[0-9]+)", text)
    return float(match[1]) if match else None

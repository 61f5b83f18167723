"""Turn finished rows into a cloud-optimised GeoTIFF with what QGIS and GDAL need beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as Xml
from xml.etree.ElementTree import Element

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS

from wholescene.errors import OutputError
from wholescene.geometry import Size
from wholescene.labels import ClassTable
from wholescene.raster.aside import free_disk_check, written_aside
from wholescene.raster.gdal import GDAL_ERRORS, gdal_env, why, without_georeferencing_warning
from wholescene.raster.sidecar import CLASSES_TAG, aux_path, aux_xml, class_tag, qml_path, qml_xml
from wholescene.raster.tiles import verify_tiles

__all__ = ["free_disk_check", "write_band_cog", "write_label_cog"]

TILE_PX = 512
SOFTWARE = "wholescene"
GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}


def write_label_cog(
    store_raw: str | Path,
    out: str | Path,
    *,
    size: Size,
    transform: Affine,
    crs: CRS | None,
    classes: ClassTable,
    tags: Mapping[str, str],
    description: str = "class",
) -> None:
    """Write a label map: COG with palette, ``.aux.xml`` with class names, ``.qml`` with both.

    The map appears under its name last; the same rows give the same bytes.

    Args:
        store_raw: Raster ids, row by row, in ``classes.map_dtype``; ``classes.nodata_id`` where
            there is no data.
        out: The map.
        size: Rows and columns.
        transform: From (column, row) to map coordinates; the identity for none.
        crs: ``None`` for none.
        classes: Ids, names, colours.
        tags: Tags of the file, such as model and settings.
        description: Description of the band.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(out)
    vrt = _vrt(
        Path(store_raw),
        size=size,
        dtype=classes.map_dtype,
        transform=transform,
        crs=crs,
        tags={**tags, CLASSES_TAG: class_tag(classes)},
        bands=[description],
        nodata=classes.nodata_id,
    )
    _add_palette(vrt, classes)
    sidecars = {aux_path(path): aux_xml(classes, description), qml_path(path): qml_xml(classes)}
    _write_cog(Path(store_raw), vrt, path, overviews="MODE", predictor="NO", sidecars=sidecars)


def write_band_cog(
    raw: str | Path,
    out: str | Path,
    *,
    size: Size,
    bands: Sequence[str],
    dtype: str,
    transform: Affine,
    crs: CRS | None,
    nodata: float | None = None,
    scale: float | None = None,
    offset: float | None = None,
    tags: Mapping[str, str],
) -> None:
    """Write numbers, such as probabilities, as a COG with averaged overviews.

    Args:
        raw: Bands one after the other, each row by row.
        out: The file.
        size: Rows and columns.
        bands: Description of each band.
        dtype: Stored type.
        transform: From (column, row) to map coordinates; the identity for none.
        crs: ``None`` for none.
        nodata: Stored value of missing pixels.
        scale: Factor from stored to physical values, kept as a tag.
        offset: Added after ``scale``, kept as a tag.
        tags: Tags of the file.

    Raises:
        OutputError: If it cannot be written.
    """
    vrt = _vrt(
        Path(raw),
        size=size,
        dtype=dtype,
        transform=transform,
        crs=crs,
        tags=tags,
        bands=bands,
        nodata=nodata,
        scale=scale,
        offset=offset,
    )
    _write_cog(Path(raw), vrt, Path(out), overviews="AVERAGE", predictor="YES", sidecars={})


def _vrt(
    raw: Path,
    *,
    size: Size,
    dtype: str,
    transform: Affine,
    crs: CRS | None,
    tags: Mapping[str, str],
    bands: Sequence[str],
    nodata: float | None,
    scale: float | None = None,
    offset: float | None = None,
) -> Element:
    """Describe raw rows so that GDAL can open them."""
    _check_complete(raw, len(bands) * size.area * np.dtype(dtype).itemsize)
    root = Element("VRTDataset", rasterXSize=str(size.width), rasterYSize=str(size.height))
    if crs is not None:
        Xml.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = crs.to_wkt()
    if not transform.is_identity:
        # repr keeps every bit of a float.
        numbers = [repr(float(number)) for number in transform.to_gdal()]
        Xml.SubElement(root, "GeoTransform").text = ", ".join(numbers)
    metadata = Xml.SubElement(root, "Metadata")
    for key, value in {"TIFFTAG_SOFTWARE": SOFTWARE, **tags}.items():
        Xml.SubElement(metadata, "MDI", key=key).text = value
    for index, description in enumerate(bands, 1):
        band = Xml.SubElement(
            root,
            "VRTRasterBand",
            dataType=GDAL_TYPES[dtype],
            band=str(index),
            subClass="VRTRawRasterBand",
        )
        Xml.SubElement(band, "Description").text = description
        for name, number in {"NoDataValue": nodata, "Offset": offset, "Scale": scale}.items():
            if number is not None:
                Xml.SubElement(band, name).text = repr(number)
        _add_raw(band, raw, size=size, dtype=np.dtype(dtype), index=index)
    return root


def _check_complete(raw: Path, expected: int) -> None:
    # GDAL would fill what is missing with zeros.
    held = raw.stat().st_size if raw.exists() else 0
    if held != expected:
        raise OutputError(f"{raw}: holds {held} bytes of rows, but the map has {expected}")


def _add_raw(band: Element, raw: Path, *, size: Size, dtype: np.dtype[Any], index: int) -> None:
    Xml.SubElement(band, "SourceFilename", relativeToVRT="1").text = raw.name
    layout = {
        "ImageOffset": (index - 1) * size.area * dtype.itemsize,
        "PixelOffset": dtype.itemsize,
        "LineOffset": size.width * dtype.itemsize,
        "ByteOrder": "LSB" if sys.byteorder == "little" else "MSB",
    }
    for name, value in layout.items():
        Xml.SubElement(band, name).text = str(value)


def _add_palette(vrt: Element, classes: ClassTable) -> None:
    band = vrt.find("VRTRasterBand")
    assert band is not None
    Xml.SubElement(band, "ColorInterp").text = "Palette"
    table = Xml.SubElement(band, "ColorTable")
    colors = dict(zip(classes.ids, classes.colors, strict=True))
    for class_id in range(max(*colors, classes.nodata_id) + 1):
        red, green, blue = map(str, colors.get(class_id, (0, 0, 0)))
        Xml.SubElement(table, "Entry", c1=red, c2=green, c3=blue, c4="255")


def _write_cog(
    raw: Path,
    vrt: Element,
    path: Path,
    *,
    overviews: Literal["MODE", "AVERAGE"],
    predictor: Literal["YES", "NO"],
    sidecars: Mapping[Path, str],
) -> None:
    # GDAL reads raw files only from beside or below the description.
    vrt_path = raw.with_suffix(".vrt")
    with ExitStack() as stack:
        part = stack.enter_context(written_aside(path))
        texts = [
            (stack.enter_context(written_aside(name)), text) for name, text in sidecars.items()
        ]
        stack.callback(_remove, vrt_path, part)
        vrt_path.write_bytes(Xml.tostring(vrt, encoding="utf-8"))
        for text_part, text in texts:
            text_part.write_text(text, encoding="utf-8")
        _copy(vrt_path, part, path, OVERVIEW_RESAMPLING=overviews, PREDICTOR=predictor)


def _copy(vrt: Path, part: Path, path: Path, **options: str) -> None:
    compression = "ZSTD" if _has_zstd() else "DEFLATE"
    try:
        # An overview of a map must not show classes that only a cache of the old map knew.
        with gdal_env(GDAL_PAM_ENABLED="NO"), without_georeferencing_warning():
            rasterio.shutil.copy(
                str(vrt),
                str(part),
                driver="COG",
                BLOCKSIZE=TILE_PX,
                COMPRESS=compression,
                BIGTIFF="IF_SAFER",
                **options,
            )
        verify_tiles(part)
    except GDAL_ERRORS as error:
        raise OutputError(
            f"{path}: the map cannot be written ({why(error)}); is the disk full? Free space or "
            "choose another folder with --out"
        ) from error


def _remove(vrt: Path, part: Path) -> None:
    for name in (vrt, *part.parent.glob(f"{part.name}.*.tmp"), aux_path(part)):
        with suppress(OSError):
            name.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _has_zstd() -> bool:
    """Whether this GDAL was built with ZSTD, which the COG driver does not say up front."""
    name = "/vsimem/wholescene-zstd-probe.tif"
    profile = {"driver": "GTiff", "height": 1, "width": 1, "count": 1, "dtype": "uint8"}
    try:
        with gdal_env(), without_georeferencing_warning():
            with rasterio.open(name, "w", compress="ZSTD", **profile):
                pass
            rasterio.shutil.delete(name)
    except GDAL_ERRORS:
        return False
    return True

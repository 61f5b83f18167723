"""Turn a label map into polygons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError, LabelError, RasterError, UnsupportedError
from wholescene.geometry import Window
from wholescene.labels import MAX_ID, ClassTable
from wholescene.progress import Progress
from wholescene.raster.gdal import HandlePool, gdal_env
from wholescene.raster.georeference import EARTH_FLATTENING, EARTH_RADIUS_M, map_points
from wholescene.raster.info import SceneInfo, describe
from wholescene.raster.sidecar import read_class_names
from wholescene.raster.source_reader import read_pixels

if TYPE_CHECKING:
    from wholescene.raster.polygons import LabelBand, Polygons
    from wholescene.raster.vector_file import Rows

__all__ = ["vectorize"]

NODATA = -1
"""Stands for pixels without a class."""

BAND_PIXELS = 1 << 20
"""Pixels of the map held at once."""


def vectorize(
    map_path: str | Path,
    out: str | Path,
    *,
    classes: ClassTable | None = None,
    min_area: float | None = None,
    simplify: float | None = None,
    band_rows: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the areas of equal class as polygons, without seams.

    Areas are 4-connected and follow the pixel borders. The map is read in bands of rows, and
    memory holds the areas that cross the current row. With ``simplify`` it holds all areas with
    a vertex for every pixel of border (some 100 bytes each), because neighbours must keep
    identical borders.

    Args:
        map_path: One band of class ids.
        out: ``.gpkg``, ``.parquet``, ``.fgb`` or ``.geojson``; columns ``class_id``,
            ``class_name``, ``area_m2``. GeoJSON is in longitude and latitude, the others in the
            CRS of the map. Areas are planar in a projected CRS, on the ellipsoid in a geographic
            one, and missing without a CRS.
        classes: Names of the ids; ``None`` takes those stored with the map.
        min_area: Leave out smaller polygons, in square metres.
        simplify: Straighten borders by about this many metres; the outline of the map stays.
        band_rows: Rows read at once; ``None`` chooses.
        progress: Called with the rows read and all rows.

    Returns:
        Number of polygons.

    Raises:
        InputError: If areas or lengths are asked for in metres and the map has none.
        LabelError: If the map holds an id that is not in ``classes``.
        OutputError: If ``out`` cannot be written or has another ending.
        RasterError: If the map cannot be read.
        UnsupportedError: If a package for vector files is missing.
    """
    try:
        from wholescene.raster import polygons as tracing
        from wholescene.raster import vector_file
    except ImportError as error:
        raise UnsupportedError(
            f"vectorize needs {error.name}, which is not installed; "
            "pip install 'wholescene[vector]'"
        ) from error

    path = Path(out)
    source = _Map.open(map_path, classes)
    vector_file.check_target(path, source.info.crs)
    _check_metres(source, min_area=min_area, simplify=simplify)
    # Borders with nodata are simplified like all others: as borders between two polygons.
    found = tracing.stream_polygons(source.bands(band_rows, progress, with_nodata=bool(simplify)))
    if min_area is not None:
        found = _small_as_nodata(found, source, min_area)
    if simplify and source.info.gsd_m is not None:
        found = _simplified(found, simplify / source.info.gsd_m)
    found = (group.where(group.ids != NODATA) for group in found)
    counted = _Count()
    rows = counted.through(source.rows(group) for group in found)
    vector_file.write_rows(path, rows, source.info.crs)
    return counted.rows


@dataclass(frozen=True)
class _Map:
    """An open label map."""

    info: SceneInfo
    names: dict[int, str]
    classes: ClassTable | None
    handles: HandlePool

    @classmethod
    def open(cls, map_path: str | Path, classes: ClassTable | None) -> _Map:
        path = str(map_path)
        handles = HandlePool()
        with gdal_env():
            info = describe(handles.get(path), path)
        dtype = np.dtype(info.data_bands[0].dtype) if info.data_bands else np.dtype(float)
        if len(info.data_bands) != 1 or dtype.kind not in "iu":
            raise RasterError(
                f"{path}: {len(info.bands)} bands of {info.bands[0].dtype}; a label map has one "
                "band of whole numbers"
            )
        if classes is None:
            names = read_class_names(path)
        else:
            names = dict(zip(classes.ids, classes.names, strict=True))
        return cls(info, names, classes, handles)

    def bands(
        self, band_rows: int | None, progress: Progress | None = None, *, with_nodata: bool
    ) -> Iterator[LabelBand]:
        """Read the map from top to bottom; without data it holds ``NODATA`` or is not kept."""
        from wholescene.raster.polygons import LabelBand

        size = self.info.size
        fitting = max(1, BAND_PIXELS // size.width)
        rows = band_rows or fitting // 512 * 512 or fitting
        for row in range(0, size.height, rows):
            height = min(rows, size.height - row)
            window = Window(row_off=row, col_off=0, height=height, width=size.width)
            band = self.info.data_bands[0]
            ids = read_pixels(self.info.path, self.handles, window, (band.index,))[0]
            known, keep = self._checked(ids)
            yield LabelBand(row, known, keep | with_nodata)
            if progress is not None:
                progress(row + height, size.height)

    def rows(self, polygons: Polygons) -> Rows:
        """Bring polygons into map coordinates and give them names and areas."""
        import shapely

        from wholescene.raster.vector_file import Rows

        def place(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(map_points(self.info.transform, points[:, 0], points[:, 1]))

        ids = polygons.ids
        names = [self.names.get(class_id, str(class_id)) for class_id in ids.tolist()]
        placed = shapely.transform(polygons.geometries, place)
        return Rows(placed, ids, names, self.areas_m2(polygons.geometries))

    def areas_m2(self, geometries: NDArray[np.object_]) -> NDArray[np.float64]:
        """Areas of polygons given in pixel coordinates; NaN if the map has no metres."""
        import shapely

        if self.info.gsd_m is None or self.info.crs is None:
            return np.full(len(geometries), np.nan)
        if not self.info.crs.is_geographic:
            areas: NDArray[np.float64] = shapely.area(geometries)
            return areas * self.info.gsd_m**2
        flat = shapely.transform(geometries, partial(_equal_area, self.info.transform))
        on_ellipsoid: NDArray[np.float64] = shapely.area(flat)
        return on_ellipsoid

    def _checked(self, stored: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        nodata = self.info.data_bands[0].nodata
        keep = np.ones(stored.shape, bool) if nodata is None else stored != nodata
        if self.classes is not None and self.classes.ignore_id is not None:
            keep &= stored != self.classes.ignore_id
        held = stored[keep]
        if held.size and (held.min() < 0 or held.max() > MAX_ID):
            wrong = held.min() if held.min() < 0 else held.max()
            raise LabelError(f"{self.info.path}: id {wrong} is outside 0..{MAX_ID}")
        if self.classes is not None:
            self.classes.to_index(held, where=self.info.path)
        return np.where(keep, stored.astype(np.int32), NODATA), keep


class _Count:
    """Counts rows on their way to the file."""

    def __init__(self) -> None:
        self.rows = 0

    def through(self, groups: Iterator[Rows]) -> Iterator[Rows]:
        for group in groups:
            self.rows += len(group.class_ids)
            if len(group.class_ids):
                yield group


def _check_metres(source: _Map, *, min_area: float | None, simplify: float | None) -> None:
    for option, value in (("--min-area", min_area), ("--simplify", simplify)):
        if value is None:
            continue
        if not value >= 0:
            raise InputError(f"{option} {value} is negative; give 0 or more")
        if source.info.gsd_m is None:
            raise InputError(
                f"{source.info.path}: {option} {value} is in metres, but the map has no CRS with "
                "metres; georeference it first or leave the option out"
            )


def _small_as_nodata(
    found: Iterator[Polygons], source: _Map, min_area: float
) -> Iterator[Polygons]:
    from wholescene.raster.polygons import Polygons

    for group in found:
        small = source.areas_m2(group.geometries) < min_area
        yield Polygons(np.where(small, NODATA, group.ids), group.geometries)


def _simplified(found: Iterator[Polygons], tolerance_px: float) -> Iterator[Polygons]:
    from wholescene.raster.polygons import Polygons, simplify_coverage

    groups = list(found)
    whole = Polygons(
        np.concatenate([group.ids for group in groups]),
        np.concatenate([group.geometries for group in groups]),
    )
    yield simplify_coverage(whole, tolerance_px)


def _equal_area(transform: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cylindrical equal-area coordinates in metres of pixel corners of a map in degrees.

    Source:
        Snyder 1987, Map Projections: A Working Manual, equations 3-12 and 10-15.
    """
    lon, lat = map_points(transform, points[:, 0], points[:, 1])
    e = np.sqrt(EARTH_FLATTENING * (2 - EARTH_FLATTENING))
    s = np.sin(np.radians(lat))
    q = (1 - e**2) * (s / (1 - (e * s) ** 2) + np.arctanh(e * s) / e)
    return np.column_stack([EARTH_RADIUS_M * np.radians(lon), EARTH_RADIUS_M * q / 2])

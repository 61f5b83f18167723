"""Write polygons to GeoPackage, GeoParquet, FlatGeobuf and GeoJSON as they come."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from wholescene.errors import OutputError, UnsupportedError
from wholescene.raster.aside import aside_path, written_aside
from wholescene.raster.gdal import gdal_env

__all__ = ["SUFFIXES", "Rows", "check_target", "write_rows"]

OGR_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.GeometryError,
)
BATCH_ROWS = 16_384
GEOJSON_DECIMALS = 8
"""About a millimetre on the ground."""


@dataclass(frozen=True)
class Rows:
    """Some polygons with their attributes.

    Args:
        geometries: Polygons in map coordinates.
        class_ids: Class of each.
        class_names: Its name.
        areas_m2: Area on the ground; NaN where it is unknown.
    """

    geometries: NDArray[np.object_]
    class_ids: NDArray[np.int64]
    class_names: list[str]
    areas_m2: NDArray[np.float64]


def check_target(path: Path, crs: CRS | None) -> None:
    """Refuse formats that do not exist or cannot hold the map, before any work.

    Raises:
        OutputError: If the name ends in none of the formats.
        UnsupportedError: If GeoJSON is asked for and the map has no CRS.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path}: unknown vector format {path.suffix!r}; end the name in {', '.join(SUFFIXES)}"
        )
    if path.suffix.lower() == ".geojson" and crs is None:
        raise UnsupportedError(
            f"{path}: GeoJSON holds longitudes and latitudes, but the map has no CRS; write .gpkg, "
            ".parquet or .fgb, or georeference the map first"
        )


def write_rows(path: Path, rows: Iterator[Rows], crs: CRS | None) -> None:
    """Write a file aside and give it its name when it is complete.

    Raises:
        OutputError: If it cannot be written.
    """
    part = aside_path(path)
    with written_aside(path, aside=part):
        try:
            SUFFIXES[path.suffix.lower()](part, path.stem, rows, crs)
        except (*OGR_ERRORS, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise OutputError(
                f"{path}: cannot be written ({reason}); is the disk full? Free space or choose "
                "another folder with --out"
            ) from error
        finally:
            for extra in ("-journal", "-wal", "-shm"):
                part.with_name(part.name + extra).unlink(missing_ok=True)


def _batches(rows: Iterator[Rows], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Gather small groups of rows into batches worth writing."""
    waiting: list[pa.RecordBatch] = []
    for group in rows:
        waiting.append(_batch(group, schema))
        if sum(map(len, waiting)) >= BATCH_ROWS:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(rows.class_ids, pa.int32()),
        pa.array(rows.class_names, pa.string()),
        pa.array(rows.areas_m2, pa.float64(), from_pandas=True),  # NaN becomes null
        pa.array(shapely.to_wkb(rows.geometries), pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(geo: dict[str, Any] | None = None) -> pa.Schema:
    fields = [
        pa.field("class_id", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("area_m2", pa.float64()),
        pa.field("geometry", pa.binary()),
    ]
    return pa.schema(fields, metadata={"geo": json.dumps(geo)} if geo else None)


def _write_parquet(part: Path, name: str, rows: Iterator[Rows], crs: CRS | None) -> None:
    del name
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": crs.to_dict(projjson=True) if crs is not None else None,
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = _schema(geo)
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in _batches(rows, schema):
            writer.write_batch(batch)


class _Watched:
    """Rows whose errors survive the way through GDAL, which only tells that there was one."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._rows = rows
        self._error: Exception | None = None

    def rows(self) -> Iterator[Rows]:
        try:
            yield from self._rows
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def reported(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise


def _write_ogr(driver: str) -> Callable[[Path, str, Iterator[Rows], CRS | None], None]:
    def write(part: Path, name: str, rows: Iterator[Rows], crs: CRS | None) -> None:
        schema = _schema()
        watched = _Watched(rows)
        reader = pa.RecordBatchReader.from_batches(schema, _batches(watched.rows(), schema))
        part.unlink()  # GDAL makes the file itself and stumbles over an empty one
        with watched.reported(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.raw.write_arrow(
                reader,
                part,
                layer=name,
                driver=driver,
                geometry_name="geometry",
                geometry_type="Polygon",
                crs=crs.to_wkt() if crs is not None else None,
            )

    return write


def _write_geojson(part: Path, name: str, rows: Iterator[Rows], crs: CRS | None) -> None:
    """Longitudes and latitudes, shells anticlockwise, as RFC 7946 wants it."""
    assert crs is not None
    with part.open("w", encoding="utf-8") as file:
        head = json.dumps({"type": "FeatureCollection", "name": name})
        file.write(head[:-1] + ', "features": [')
        separator = "\n"
        for group in rows:
            geometries = shapely.orient_polygons(_to_lonlat(group.geometries, crs))
            values = zip(
                shapely.to_geojson(geometries).tolist(),
                group.class_ids.tolist(),
                group.class_names,
                group.areas_m2.tolist(),
                strict=True,
            )
            for geometry, class_id, class_name, area in values:
                properties = {"class_id": class_id, "class_name": class_name, "area_m2": area}
                text = json.dumps(properties)
                feature = f'{{"type": "Feature", "properties": {text}, "geometry": {geometry}}}'
                file.write(separator + feature)
                separator = ",\n"
        file.write("\n]}\n")


def _to_lonlat(geometries: NDArray[np.object_], crs: CRS) -> NDArray[np.object_]:
    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(points):
            return points
        with gdal_env():
            lon, lat = transform(crs, CRS.from_epsg(4326), points[:, 0], points[:, 1])
        return np.round(np.column_stack([lon, lat]), GEOJSON_DECIMALS)

    moved: NDArray[np.object_] = shapely.transform(geometries, project)
    return moved


SUFFIXES: dict[str, Callable[[Path, str, Iterator[Rows], CRS | None], None]] = {
    ".gpkg": _write_ogr("GPKG"),
    ".parquet": _write_parquet,
    ".fgb": _write_ogr("FlatGeobuf"),
    ".geojson": _write_geojson,
}

"""Polygons of a vector file as rasters of class ids on the grid of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform as warp_points
from rasterio.warp import transform_bounds

from wholescene.errors import LabelError, RasterError, UnsupportedError
from wholescene.labels import ClassTable
from wholescene.raster.gdal import GDAL_ERRORS, gdal_env, without_georeferencing_warning
from wholescene.raster.georeference import Grid, map_points
from wholescene.raster.write import StripWriter

if TYPE_CHECKING:
    import shapely

__all__ = ["PolygonCoding", "PolygonFile", "rasterize_polygons"]

STRIP_PIXELS = 1 << 23

_POLYGONAL = ("Polygon", "MultiPolygon")
_LONLAT = "EPSG:4326"
_MARGIN = 0.01  # of the side of an image: its sides may bend in the CRS of the polygons
_EDGE_POINTS = 21


@dataclass(frozen=True)
class PolygonCoding:
    """What polygons stand for.

    Args:
        classes: Classes, and the id of ignored pixels.
        background: Id of pixels in no polygon.
        foreground: Id of every polygon where no attribute tells it.
        ids: Class id of every value of the attribute, as text.
    """

    classes: ClassTable
    background: int
    foreground: int = 1
    ids: Mapping[str, int] = field(default_factory=dict)

    def id_of(self, value: str | None, where: str) -> int:
        """Class id of a polygon.

        Args:
            value: Its attribute as text; ``None`` if none is asked for.
            where: File named in the error.

        Raises:
            LabelError: If the value is no class.
        """
        if value is None:
            return self.foreground
        if value not in self.ids:
            raise LabelError(
                f"{where}: value {value!r} stands for no class; known are "
                f"{', '.join(map(repr, self.ids))}. Add it to the class file, or choose another "
                "attribute with --field"
            )
        return self.ids[value]


class PolygonFile:
    """The polygons of a vector file, read once and held in memory.

    May be shared by threads.

    Args:
        path: GeoJSON, GeoPackage, Shapefile, FlatGeobuf or anything GDAL reads, with one layer.
        attribute: Attribute that tells the class; ``None`` if all polygons are one class.

    Raises:
        UnsupportedError: If a package for vector files is missing.
        RasterError: If the file cannot be read, has several layers or no CRS.
        LabelError: If the attribute is missing, or a feature is no polygon or lacks the attribute.
    """

    def __init__(self, path: str | Path, attribute: str | None = None) -> None:
        self.path, self.attribute = Path(path), attribute
        meta, shapes, values = _read_features(self.path, attribute)
        if len(shapes) and not meta["crs"]:
            raise RasterError(
                f"{path}: the file has no CRS, so its polygons have no place on the images; add it "
                "(a .prj beside a Shapefile, or ogr2ogr -a_srs)"
            )
        self._crs = CRS.from_user_input(meta["crs"] or _LONLAT)
        self._shapes = self._checked(shapes)
        kept = [i for i, shape in enumerate(self._shapes) if shape is not None]
        self._shapes = self._shapes[kept]
        self.values: tuple[str | None, ...] = self._as_texts(values, kept)

    def __len__(self) -> int:
        return len(self._shapes)

    def counts(self) -> Counter[str | None]:
        """Number of polygons with each value of the attribute."""
        return Counter(self.values)

    def near(self, grid: Grid) -> list[int]:
        """Positions of the polygons that may meet a grid, in the order of the file."""
        import shapely

        west, south, east, north = self._bounds_of(grid)
        pad_x, pad_y = _MARGIN * (east - west), _MARGIN * (north - south)
        if west > east:  # across the antimeridian
            west, east, pad_x = -180.0, 180.0, 0.0
        box = shapely.box(west - pad_x, south - pad_y, east + pad_x, north + pad_y)
        return sorted(self._tree.query(box).tolist())

    def in_pixels(self, positions: list[int], grid: Grid) -> NDArray[np.object_]:
        """Some polygons in columns and rows of a grid."""
        import shapely

        inverse = ~grid.transform

        def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = points.T
            if self._crs != grid.crs:
                x, y = np.array(warp_points(self._crs, grid.crs, x, y), np.float64)
            return np.column_stack(map_points(inverse, x, y))

        try:
            with gdal_env():
                moved: NDArray[np.object_] = shapely.transform(self._shapes[positions], project)
        except (CRSError, *GDAL_ERRORS) as error:
            raise RasterError(
                f"{self.path}: its polygons cannot be brought to {grid.crs} ({error})"
            ) from error
        return moved

    @cached_property
    def _tree(self) -> shapely.STRtree:
        import shapely

        return shapely.STRtree(self._shapes)

    def _bounds_of(self, grid: Grid) -> tuple[float, float, float, float]:
        height, width = grid.size
        corners = np.array([0.0, width, 0, width]), np.array([0.0, 0, height, height])
        x, y = map_points(grid.transform, *corners)
        bounds = float(x.min()), float(y.min()), float(x.max()), float(y.max())
        if grid.crs == self._crs:
            return bounds
        try:
            with gdal_env():
                west, south, east, north = transform_bounds(
                    grid.crs, self._crs, *bounds, densify_pts=_EDGE_POINTS
                )
        except (CRSError, RasterioError) as error:
            raise RasterError(
                f"{self.path}: an image in {grid.crs} has no place in {self._crs} ({error})"
            ) from error
        return west, south, east, north

    def _checked(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """The same with ``None`` for features without a shape."""
        for i, shape in enumerate(shapes):
            if shape is None or shape.is_empty:
                shapes[i] = None
            elif shape.geom_type not in _POLYGONAL:
                raise LabelError(
                    f"{self.path}: feature {i + 1} is a {shape.geom_type}; labels are polygons. "
                    "Remove it, or make an area of it (buffer)"
                )
        return shapes

    def _as_texts(self, values: NDArray[Any] | None, kept: list[int]) -> tuple[str | None, ...]:
        if values is None:
            return (None,) * len(kept)
        texts = [_as_text(values[i]) for i in kept]
        if None in texts:
            raise LabelError(
                f"{self.path}: feature {kept[texts.index(None)] + 1} has no value in "
                f"{self.attribute!r}; fill it in, or choose another attribute with --field"
            )
        return tuple(texts)


def rasterize_polygons(
    polygons: PolygonFile, out: Path, coding: PolygonCoding, grid: Grid, *, where: str
) -> NDArray[np.int64]:
    """Write the polygons that meet an image as a tiled GeoTIFF of class ids, strip by strip.

    A pixel belongs to the polygon that holds its centre; later features lie over earlier ones.

    Args:
        polygons: The file; it may reach beyond the image.
        out: The raster to write.
        coding: What polygons stand for.
        grid: Grid of the image.
        where: The image, for errors.

    Returns:
        Pixels of each class in index order, and of ignored ones, (num_classes + 1,).

    Raises:
        RasterError: If the image has no place on the ground.
        LabelError: If an attribute is no class.
        OutputError: If the raster cannot be written.
    """
    if grid.crs is None or not grid.is_placed:
        raise RasterError(
            f"{where}: the image has no CRS or no geotransform, so the polygons of {polygons.path} "
            "have no place on it; georeference the image, or give a mask"
        )
    near = polygons.near(grid)
    ids = [coding.id_of(polygons.values[i], str(polygons.path)) for i in near]
    painter = _Painter(polygons.in_pixels(near, grid), ids, coding)
    counts = np.zeros(coding.classes.num_classes + 1, np.int64)
    size, rows = grid.size, max(1, STRIP_PIXELS // grid.size.width)
    with StripWriter(
        out,
        size=size,
        bands=1,
        dtype=coding.classes.map_dtype,
        transform=grid.transform,
        crs=grid.crs,
    ) as writer:
        for top in range(0, size.height, rows):
            strip = painter.strip(top, min(rows, size.height - top), size.width)
            counts += _count(strip, coding.classes)
            writer.write(top, strip[None])
    return counts


class _Painter:
    """Polygons in pixel coordinates, painted rows by rows."""

    def __init__(self, shapes: NDArray[np.object_], ids: list[int], coding: PolygonCoding) -> None:
        import shapely

        self._shapes, self._ids, self._coding = shapes, ids, coding
        bounds = shapely.bounds(shapes).reshape(-1, 4)
        self._first, self._last = bounds[:, 1], bounds[:, 3]

    def strip(self, top: int, height: int, width: int) -> NDArray[np.unsignedinteger]:
        """Class ids of some full rows, (height, width)."""
        import shapely

        dtype = self._coding.classes.map_dtype
        met = np.flatnonzero((self._first < top + height) & (self._last > top))
        ids: NDArray[np.unsignedinteger] = np.full((height, width), self._coding.background, dtype)
        if not met.size:
            return ids
        shifted = shapely.transform(self._shapes[met], lambda points: points - [0, top])
        # rasterio silences the same warning while it paints, but not for one thread alone.
        with gdal_env(), without_georeferencing_warning():
            rasterize(zip(shifted, (self._ids[i] for i in met), strict=True), out=ids)
        return ids


def _count(ids: NDArray[np.unsignedinteger], classes: ClassTable) -> NDArray[np.int64]:
    found = np.bincount(ids.ravel(), minlength=max(*classes.ids, classes.nodata_id) + 1)
    counts = found[list(classes.ids)]
    return np.append(counts, ids.size - counts.sum())


def _read_features(
    path: Path, attribute: str | None
) -> tuple[dict[str, Any], NDArray[np.object_], NDArray[Any] | None]:
    """Metadata, shapes, and values of the attribute."""
    try:
        import pyogrio
        import shapely
    except ImportError as error:
        raise UnsupportedError(
            f"{path}: polygons need {error.name}, which is not installed; "
            "pip install 'wholescene[vector]'"
        ) from error
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if len(layers) != 1:
            raise RasterError(
                f"{path}: has {len(layers)} layers ({', '.join(layers)}); give a file with the one "
                "layer of labels (ogr2ogr labels.gpkg FILE LAYER)"
            )
        info = pyogrio.read_info(path, force_feature_count=True)
        fields = [str(name) for name in info["fields"]]
        if info["features"] == 0:
            attribute = None  # an empty file need not have it
        if attribute is not None and attribute not in fields:
            raise LabelError(
                f"{path}: has no attribute {attribute!r}; it has {', '.join(fields) or 'none'}; "
                "see --field"
            )
        columns = [] if attribute is None else [attribute]
        meta, _, wkb, data = pyogrio.raw.read(path, columns=columns, force_2d=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RasterError(f"{path}: cannot be read as a vector file ({error})") from error
    return meta, shapely.from_wkb(wkb), data[0] if attribute is not None else None


def _as_text(value: Any) -> str | None:
    """Text of an attribute, whole numbers without a point; ``None`` if it is missing."""
    if value is None or value != value:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip() or None

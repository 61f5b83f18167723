"""The only room that opens raster files."""

from wholescene.raster.aside import free_disk_check
from wholescene.raster.cog import write_band_cog, write_label_cog
from wholescene.raster.footprint import Footprint, footprint, shared_area
from wholescene.raster.gdal import cap_gdal_cache
from wholescene.raster.georeference import GeoreferenceWarning
from wholescene.raster.info import BandInfo, SceneInfo, open_info
from wholescene.raster.labels import LabelReader
from wholescene.raster.read import Pixels, SceneReader
from wholescene.raster.render import read_preview, write_png
from wholescene.raster.sidecar import read_class_names, read_palette
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.raster.statistics import BandStatistics, band_statistics, class_counts
from wholescene.raster.store import RowStore
from wholescene.raster.tags import read_tags
from wholescene.raster.vectorize import vectorize
from wholescene.raster.write import StripWriter

__all__ = [
    "BandInfo",
    "BandSpec",
    "BandStatistics",
    "Footprint",
    "GeoreferenceWarning",
    "LabelReader",
    "Pixels",
    "RowStore",
    "SceneInfo",
    "SceneReader",
    "SourceSpec",
    "StripWriter",
    "band_statistics",
    "cap_gdal_cache",
    "class_counts",
    "footprint",
    "free_disk_check",
    "open_info",
    "read_class_names",
    "read_palette",
    "read_preview",
    "read_tags",
    "shared_area",
    "vectorize",
    "write_band_cog",
    "write_label_cog",
    "write_png",
]

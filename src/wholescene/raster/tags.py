"""Tags of a raster file."""

from __future__ import annotations

from pathlib import Path

from wholescene.raster.gdal import gdal_env, open_dataset

__all__ = ["read_tags"]


def read_tags(path: str | Path) -> dict[str, str]:
    """Tags of a file, by name.

    Raises:
        RasterError: If it cannot be opened.
    """
    with gdal_env():
        dataset = open_dataset(str(path))
        try:
            return dict(dataset.tags())
        finally:
            dataset.close()

"""Pictures for people: previews of scenes and PNG files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import InputError
from wholescene.geometry import Size, Window
from wholescene.raster.aside import written_aside
from wholescene.raster.read import SceneReader

__all__ = ["png_bytes", "preview_size", "read_preview", "stretch", "write_png"]

LOW_PERCENT, HIGH_PERCENT = 2.0, 98.0


def write_png(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write an 8-bit picture, (h, w, 3).

    Raises:
        OutputError: If it cannot be written.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"{path}: a picture is (h, w, 3) of uint8, not {rgb.shape} of {rgb.dtype}")
    with written_aside(Path(path)) as part:
        part.write_bytes(png_bytes(rgb))


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """Encode an 8-bit picture, (h, w, 3), as PNG."""
    height, width, _ = rgb.shape
    # Each row differs from the one above by less than its own values (PNG filter 2, "up").
    rows = rgb.reshape(height, width * 3)
    filtered = np.full((height, 1 + width * 3), 2, np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(filtered.tobytes(), 6), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def preview_size(size: Size, max_px: int) -> Size:
    """Largest size of the same shape with no side over ``max_px``; never larger than ``size``."""
    shrink = max(1.0, max(size) / max_px)
    return Size(max(1, round(size.height / shrink)), max(1, round(size.width / shrink)))


def read_preview(scene: SceneReader | str | Path, max_px: int) -> NDArray[np.uint8]:
    """Picture of a whole scene.

    Shows the bands named red, green and blue, else the first three, else the first one in grey;
    invalid pixels are black. Contrast is stretched over the whole picture.

    Args:
        scene: Reader or path.
        max_px: Longest side of the picture.

    Returns:
        (h, w, 3).
    """
    if max_px < 1:
        raise InputError(f"a picture of at most {max_px} px shows nothing; choose 1 or more")
    if not isinstance(scene, SceneReader):
        with SceneReader(scene) as reader:
            return read_preview(reader, max_px)
    size = preview_size(scene.size, max_px)
    coarse = scene.coarser(max(scene.size) / max_px)
    pixels = coarse.read(Window.whole(coarse.size), out_size=size)
    if coarse is not scene:
        coarse.close()
    names = [name.lower() for name in scene.band_names]
    if {"red", "green", "blue"} <= set(names):
        shown = [names.index(name) for name in ("red", "green", "blue")]
    else:
        shown = [0, 1, 2] if scene.num_bands >= 3 else [0, 0, 0]
    return stretch(pixels.values[shown], pixels.valid)


def stretch(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Map each band from its 2nd..98th percentile to 0..255.

    Args:
        values: (3, h, w).
        valid: (h, w); other pixels become black and do not count.

    Returns:
        (h, w, 3).
    """
    rgb = np.zeros((*valid.shape, 3), np.uint8)
    if valid.any():
        for channel, band in enumerate(values):
            seen = band[valid]
            low, high = np.percentile(seen, [LOW_PERCENT, HIGH_PERCENT])
            part = (seen - low) / max(high - low, np.finfo(np.float32).tiny)
            rgb[valid, channel] = np.clip(np.round(part * 255), 0, 255)
    return rgb

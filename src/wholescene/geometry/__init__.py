"""Pixel geometry: integers only, no tensors, no files."""

from wholescene.geometry.grid import block_windows, cover_starts, grid_windows
from wholescene.geometry.window import Size, Window

__all__ = ["Size", "Window", "block_windows", "cover_starts", "grid_windows"]

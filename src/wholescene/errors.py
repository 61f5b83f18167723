"""Every error the package raises on purpose.

Each leaf is also the built-in a Python user would catch. The message says what was asked (with
values), why it cannot be, what would work and which setting to change.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DatasetError",
    "InputError",
    "LabelError",
    "ModelFileError",
    "OutputError",
    "RankError",
    "RasterError",
    "ResumeError",
    "UnsupportedError",
    "WholesceneError",
]


class WholesceneError(Exception):
    """Root of all errors raised on purpose; the command line prints its text and exits with 2."""


class ConfigError(WholesceneError, ValueError):
    """A run configuration that cannot be used."""


class DatasetError(WholesceneError, ValueError):
    """A dataset description, scene table or split that is missing, inconsistent or leaking."""


class InputError(WholesceneError, ValueError):
    """An argument outside its legal range."""


class LabelError(WholesceneError, ValueError):
    """A label that is in no class table."""


class ModelFileError(WholesceneError, ValueError):
    """A model file that is damaged, incomplete, or does not fit the data."""


class OutputError(WholesceneError, OSError):
    """An output that cannot be written."""


class RankError(WholesceneError, RuntimeError):
    """A process that works on the same scene has failed or is gone."""


class RasterError(WholesceneError, OSError):
    """A raster that cannot be opened or read."""


class ResumeError(WholesceneError, ValueError):
    """Unfinished work that belongs to another plan."""


class UnsupportedError(WholesceneError, NotImplementedError):
    """Something that cannot be done exactly, and so is not done at all."""

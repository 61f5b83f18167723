"""The settings of a prediction, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wholescene.errors import InputError, UnsupportedError
from wholescene.geometry import Size
from wholescene.prediction.engine import PRECISIONS, Engine
from wholescene.prediction.views import Views
from wholescene.prediction.whole import WholeEngine
from wholescene.prediction.windowed import WindowedEngine

__all__ = ["DEFAULT_BLOCK_PX", "Options", "Probabilities"]

DEFAULT_BLOCK_PX = 512
ENGINES = ("auto", "whole", "windowed")
LATER = ("streamed", "sharded")

Probabilities = bool | Literal["float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How scenes are mapped.

    Args:
        engine: ``auto`` (windowed so far), ``whole`` or ``windowed``.
        block: Window side in pixels; ``None``: 512.
        overlap: Pixels neighbouring windows share; ``None``: a quarter of the window.
        batch: Windows per forward pass.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        bands: Bands of the scene in the model's order; ``None``: found by name, wavelength or
            position.
        tta: Test-time augmentation such as ``"flips,turns,scales=0.75,1.25"``.
        probabilities: Also write one band per class, as uint8 or ``"float32"``.
        uncertainty: Also write the normalised entropy.

    Raises:
        InputError: If a value is out of range.
        UnsupportedError: If the engine is not there yet.
    """

    engine: str = "auto"
    block: int | None = None
    overlap: int | None = None
    batch: int = 4
    device: str = "auto"
    precision: str = "float32"
    bands: tuple[int | str, ...] | None = None
    tta: str | None = None
    probabilities: Probabilities = False
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.engine in LATER:
            raise UnsupportedError(
                f"engine {self.engine!r} is not there yet; use {' or '.join(ENGINES)}"
            )
        if self.engine not in ENGINES:
            raise InputError(f"engine {self.engine!r} is unknown; use {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision {self.precision!r} is unknown; use {', '.join(PRECISIONS)}"
            )
        if self.batch < 1:
            raise InputError(f"batch {self.batch} is not at least 1; set --batch")
        if self.block_px < 1:
            raise InputError(f"block {self.block} px is not at least 1; set --block")
        if not 0 <= self.overlap_px < self.block_px:
            raise InputError(
                f"overlap {self.overlap_px} px is not in 0..{self.block_px - 1}, less than the "
                f"block of {self.block_px} px; lower --overlap or raise --block"
            )
        if self.probabilities not in (False, True, "float32"):
            raise InputError(f"probabilities {self.probabilities!r}: use True or 'float32'")
        Views.parse(self.tta)

    @property
    def block_px(self) -> int:
        """Window side."""
        return DEFAULT_BLOCK_PX if self.block is None else self.block

    @property
    def overlap_px(self) -> int:
        """Pixels neighbouring windows share."""
        return self.block_px // 4 if self.overlap is None else self.overlap

    @property
    def engine_name(self) -> str:
        """Engine that will run."""
        return "windowed" if self.engine == "auto" else self.engine

    def build_engine(self, size: Size) -> Engine:
        """Make the engine for a scene; a window is never larger than the scene."""
        if self.engine_name == "whole":
            return WholeEngine(size)
        block = Size(min(self.block_px, size.height), min(self.block_px, size.width))
        overlap = Size(*(min(self.overlap_px, side - 1) for side in block))
        return WindowedEngine(size, block, overlap, self.batch)

    def key(self, device: str) -> dict[str, Any]:
        """What the bytes of a map depend on, besides scene and model."""
        windows = (
            {}
            if self.engine_name == "whole"
            else {
                "block": self.block_px,
                "overlap": self.overlap_px,
                "batch": self.batch,
            }
        )
        return {
            "engine": self.engine_name,
            **windows,
            "device": device,
            "precision": self.precision,
            "tta": str(Views.parse(self.tta)),
            "probabilities": str(self.probabilities),
            "uncertainty": self.uncertainty,
        }

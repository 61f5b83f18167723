"""The settings of a prediction, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wholescene.errors import InputError
from wholescene.geometry import Size
from wholescene.launch import launched
from wholescene.prediction.engine import PRECISIONS, Work
from wholescene.prediction.views import Views
from wholescene.prediction.whole import WholeEngine
from wholescene.prediction.windowed import WindowedEngine
from wholescene.spatial.memory import parse_bytes

__all__ = ["DEFAULT_BLOCK_PX", "Options", "Probabilities"]

DEFAULT_BLOCK_PX = 512
DEFAULT_BATCH = 4
ENGINES = ("auto", "whole", "streamed", "sharded", "windowed")
APPLIES = {
    "block": ("auto", "streamed", "windowed"),
    "overlap": ("windowed",),
    "batch": ("windowed",),
    "memory": ("auto", "streamed"),
    "strict": ("auto", "streamed", "sharded"),
    "ranks": ("sharded",),
    "tta": ("auto", "whole", "windowed"),
}
"""Engines that each setting means something to."""

Probabilities = bool | Literal["float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How scenes are mapped.

    Args:
        engine: ``whole``: one plain forward over the scene. ``streamed``: the same numbers block
            by block, in memory that does not grow with the scene's height. ``sharded``: the same
            numbers, its rows over several processes and devices. ``windowed``:
            overlapping windows, blended; the map depends on their size. ``auto``: ``whole``
            where it fits into the memory, else ``streamed``.
        block: Side in pixels of a streamed block (``None``: as the memory allows) or of a window
            (``None``: 512).
        overlap: Pixels neighbouring windows share; ``None``: a quarter of the window.
        batch: Windows per forward pass; ``None``: 4.
        memory: Budget in bytes or as ``"4GiB"``, for the choice of ``auto`` and of streamed
            blocks; ``None``: half of the machine's memory or 0.8 of a CUDA device's, and no more
            than is free.
        strict: Refuse layers that exact execution has no rule for, before a pixel is read.
        ranks: Processes of ``sharded``, each on a device of its own; ``None``: those that torchrun
            started.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        bands: Bands of the scene in the model's order; ``None``: found by name, wavelength or
            position.
        tta: Test-time augmentation such as ``"flips,turns,scales=0.75,1.25"``.
        probabilities: Also write one band per class, as uint8 or ``"float32"``.
        uncertainty: Also write the normalised entropy.

    Raises:
        InputError: If a value is out of range.
    """

    engine: str = "auto"
    block: int | None = None
    overlap: int | None = None
    batch: int | None = None
    memory: int | str | None = None
    strict: bool = False
    ranks: int | None = None
    device: str = "auto"
    precision: str = "float32"
    bands: tuple[int | str, ...] | None = None
    tta: str | None = None
    probabilities: Probabilities = False
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine {self.engine!r} is unknown; use {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision {self.precision!r} is unknown; use {', '.join(PRECISIONS)}"
            )
        self._refuse_unused()
        if self.engine == "sharded" and self.ranks is None and launched()[1] == 1:
            raise InputError(
                "engine sharded maps with several processes: say how many with --ranks, or start "
                "them with torchrun"
            )
        if self.ranks is not None and self.ranks < 1:
            raise InputError(f"ranks {self.ranks} is not at least 1; set --ranks")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch {self.batch} is not at least 1; set --batch")
        if self.block_px < 1:
            raise InputError(f"block {self.block} px is not at least 1; set --block")
        if not 0 <= self.overlap_px < self.block_px:
            raise InputError(
                f"overlap {self.overlap_px} px is not in 0..{self.block_px - 1}, less than the "
                f"block of {self.block_px} px; lower --overlap or raise --block"
            )
        if self.memory is not None:
            parse_bytes(self.memory)
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

    def build_engine(self, size: Size) -> WholeEngine | WindowedEngine:
        """Make an engine that needs no trace of the network; windowed, unless whole is asked for.

        A window is never larger than the scene.
        """
        if self.engine == "whole":
            return WholeEngine(size)
        block = Size(min(self.block_px, size.height), min(self.block_px, size.width))
        overlap = Size(*(min(self.overlap_px, side - 1) for side in block))
        return WindowedEngine(size, block, overlap, self.batch or DEFAULT_BATCH)

    def key(self, engine: Work, device: str) -> dict[str, Any]:
        """What the bytes of a map depend on, besides scene and model."""
        return {
            "engine": engine.name,
            **engine.settings,
            "device": device,
            "precision": self.precision,
            "tta": str(Views.parse(self.tta)),
            "probabilities": str(self.probabilities),
            "uncertainty": self.uncertainty,
        }

    def _refuse_unused(self) -> None:
        for name, engines in APPLIES.items():
            value = getattr(self, name)
            if value is None or value is False or value == "" or self.engine in engines:
                continue
            said = name if value is True else f"{name} {value}"
            raise InputError(
                f"--{said} does not apply to engine {self.engine}; leave it out, or use "
                f"--engine {' or '.join(engines)}"
            )

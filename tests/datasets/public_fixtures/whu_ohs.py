"""WHU-OHS as it unpacks: tr, val and ts, 32 bands, and names that occur in several splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write, zip_folder

PATCHES = (
    ("tr", "O1_0001"),
    ("tr", "S1_0105"),
    ("tr", "T1_0007"),
    ("val", "S6_0020"),
    ("val", "O5_0003"),
    ("ts", "S1_0105"),
    ("ts", "O3_0148"),
)
COUNTS = {"train": 3, "val": 2, "test": 2}
CITIES = {"train": 4, "val": 1, "test": 1}
SIDE = 96


def make(root: Path) -> None:
    """The test patches lie in an archive; one of them has the name of a training patch."""
    for split, patch in PATCHES:
        ids = truth(split, patch)
        write(root / f"{split}/image/{patch}.tif", values(split, patch), interleave="pixel")
        write(root / f"{split}/label/{patch}.tif", ids.astype(np.uint8))
    zip_folder(root / "ts", root / "ts.zip")


def truth(split: str, patch: str) -> np.ndarray:
    """Ids of a patch: 1 to 24, 0 where nothing is labelled."""
    return class_ids(SIDE, SIDE, range(25), PATCHES.index((split, patch)))


def values(split: str, patch: str) -> np.ndarray:
    """Reflectance of a patch times 10,000."""
    return pixels(truth(split, patch), 32, "int16", PATCHES.index((split, patch)))


def _mask(root: Path, patch: str = "S1_0105") -> Path:
    return root / f"tr/label/{patch}.tif"


def _wrapped(root: Path) -> None:
    """Taking 1 from bytes makes 255 of 0."""
    write(_mask(root), (truth("tr", "S1_0105").astype(np.uint8) - 1).astype(np.uint8))


def _other_size(root: Path) -> None:
    write(_mask(root), np.ones((SIDE, SIDE - 1), np.uint8))


def _missing_label(root: Path) -> None:
    _mask(root).unlink()


def _same_pixels(root: Path) -> None:
    original = root / "tr/image/S1_0105.tif"
    (root / "val/image/S6_0020.tif").write_bytes(original.read_bytes())


def _three_bands(root: Path) -> None:
    write(root / "tr/image/S1_0105.tif", np.ones((3, SIDE, SIDE), np.int16))


TRAPS = {
    "ids of another tool": Trap(_wrapped, r"S1_0105\.tif: value 255 \(\d+ px\) stands for no"),
    "other size": Trap(_other_size, r"\+0 rows, -1 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*tr_S1_0105"),
    "colour copy": Trap(_three_bands, "band 4 of source 'image' asked for, but there are 3"),
    "same pixels in two splits": Trap(_same_pixels, "the same bytes", found_by="verify"),
}

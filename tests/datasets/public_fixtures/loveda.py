"""LoveDA as it unpacks: three folders, ids in PNG masks, and no masks for the test scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write

SCENES = {
    "Train/Rural": (0, 9),
    "Train/Urban": (1366, 1367),
    "Val/Rural": (2522,),
    "Val/Urban": (3514,),
    "Test/Rural": (4191,),
    "Test/Urban": (5167,),
}
COUNTS = {"train": 4, "val": 2, "test": 2}
SIDE = 96


def make(root: Path) -> None:
    for folder, numbers in SCENES.items():
        for number in numbers:
            ids = truth(number)
            image = pixels(ids, 3, "uint8", number)
            image[:, ids == 0] = 0
            write(root / folder / f"images_png/{number}.png", image)
            if not folder.startswith("Test"):
                write(root / folder / f"masks_png/{number}.png", ids.astype(np.uint8))


def truth(number: int) -> np.ndarray:
    """Ids of a scene, 0 (no data) to 7, with a border of no data."""
    ids = class_ids(SIDE, SIDE, range(8), number)
    ids[:, :6] = 0
    return ids


def _mask(root: Path, scene: str = "Urban/masks_png/1366") -> Path:
    return root / f"Train/{scene}.png"


def _ids_of_a_tool(root: Path) -> None:
    ids = truth(1366) - 1
    ids[ids < 0] = 255
    write(_mask(root), ids.astype(np.uint8))


def _other_size(root: Path) -> None:
    write(_mask(root), np.ones((SIDE, SIDE + 2), np.uint8))


def _missing_label(root: Path) -> None:
    _mask(root).unlink()


def _twice(root: Path) -> None:
    write(root / "Val/Urban/images_png/1366.png", np.ones((3, SIDE, SIDE), np.uint8))


def _damaged_archive(root: Path) -> None:
    (root / "Val.zip").write_bytes(b"PK\x03\x04 not all of it")


def _copied_scene(root: Path) -> None:
    original = root / "Train/Rural/images_png/0.png"
    (root / "Val/Rural/images_png/2522.png").write_bytes(original.read_bytes())


TRAPS = {
    "ids of another tool": Trap(_ids_of_a_tool, r"1366\.png: value 255 \(\d+ px\) stands for no"),
    "other size": Trap(_other_size, r"\+0 rows, \+2 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*1366"),
    "one number in two folders": Trap(_twice, "are both the rgb of scene '1366'"),
    "damaged archive": Trap(_damaged_archive, r"Val\.zip.*damaged"),
    "same image in two splits": Trap(_copied_scene, "the same bytes", found_by="verify"),
}

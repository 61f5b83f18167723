"""UAVid as released: folders of sequences, colour masks, and no masks for the test sequences."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, colored, pixels, write

FOLDER = "uavid_v1.5_official_release_image"
PALETTE = {
    0: (0, 0, 0),
    1: (128, 0, 0),
    2: (128, 64, 128),
    3: (0, 128, 0),
    4: (128, 128, 0),
    5: (64, 0, 128),
    6: (192, 0, 192),
    7: (64, 64, 0),
}
SEQUENCES = {"train": (1, 4, 31), "val": (16, 36), "test": (21, 38)}
FRAMES = ("000000", "000100")
COUNTS = {"train": 6, "val": 4, "test": 4}
WIDE = (16, 31)


def make(root: Path) -> None:
    for split, sequences in SEQUENCES.items():
        for sequence in sequences:
            for frame in FRAMES:
                ids, seed = truth(sequence, frame), 1000 * sequence + int(frame)
                write(_file(root, split, sequence, "Images", frame), pixels(ids, 3, "uint8", seed))
                if split != "test":
                    path = _file(root, split, sequence, "Labels", frame)
                    write(path, colored(ids, PALETTE))


def truth(sequence: int, frame: str) -> np.ndarray:
    """Ids of a frame, 0 (clutter) to 7; frames are of two widths."""
    width = 136 if sequence in WIDE else 128
    return class_ids(72, width, range(8), 10_000 * sequence + int(frame))


def _file(root: Path, split: str, sequence: int, kind: str, frame: str = FRAMES[0]) -> Path:
    return root / FOLDER / f"uavid_{split}/seq{sequence}/{kind}/{frame}.png"


def _unknown_color(root: Path) -> None:
    mask = colored(truth(1, FRAMES[0]), PALETTE)
    mask[:, :2, :3] = 255
    write(_file(root, "train", 1, "Labels"), mask)


def _other_size(root: Path) -> None:
    write(_file(root, "train", 1, "Labels"), np.zeros((3, 72, 136), np.uint8))


def _missing_label(root: Path) -> None:
    _file(root, "val", 16, "Labels").unlink()


def _twice(root: Path) -> None:
    shutil.copytree(root / FOLDER / "uavid_train", root / "backup/uavid_train")


def _split_sequence(root: Path) -> None:
    for kind in ("Images", "Labels"):
        path = _file(root, "val", 1, kind, FRAMES[1])
        path.parent.mkdir(parents=True)
        _file(root, "train", 1, kind, FRAMES[1]).rename(path)


TRAPS = {
    "unknown colour": Trap(_unknown_color, r"000000\.png: colour \(255, 255, 255\) \(6 px\)"),
    "other size": Trap(_other_size, r"\+0 rows, \+8 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*seq16_000000"),
    "twice": Trap(_twice, "are both the rgb of scene 'seq1_000000'"),
    "sequence in two splits": Trap(_split_sequence, "group 'seq1' stands in", found_by="verify"),
}

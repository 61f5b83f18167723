"""GLH-Water as it unpacks: split folders with JPEG images beside PNG masks of 0 and 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write, zip_folder

SCENES = {
    ("train", "12"): (128, 128),
    ("train", "13"): (128, 128),
    ("val", "12"): (117, 130),
    ("test", "140"): (128, 128),
}
COUNTS = {"train": 2, "val": 1, "test": 1}
SPLITS = {"train_12": "train", "train_13": "train", "val_12": "val", "test_140": "test"}
IN_COLOR = ("test", "140")


def make(root: Path) -> None:
    """One mask has three bands, and the validation scenes lie in an archive."""
    for split, name in SCENES:
        ids = truth(split, name)
        image = pixels(ids, 3, "uint8", int(name))
        write(root / f"{split}/img/{name}.jpg", image, quality=90)
        mask = (ids * 255).astype(np.uint8)
        is_colored = (split, name) == IN_COLOR
        write(root / f"{split}/label/{name}.png", np.stack([mask] * 3) if is_colored else mask)
    zip_folder(root / "val", root / "val.zip")


def truth(split: str, name: str) -> np.ndarray:
    """Ids of a scene: 0, 1 for water."""
    return class_ids(*SCENES[split, name], range(2), int(name) + len(split))


def _mask(root: Path, scene: str = "12") -> Path:
    return root / f"train/label/{scene}.png"


def _saved_with_loss(root: Path) -> None:
    mask = truth("train", "12").astype(np.uint8) * 255
    mask[0, :5] = 254
    write(_mask(root), mask)


def _unknown_color(root: Path) -> None:
    write(root / "test/label/140.png", np.full((3, 128, 128), 64, np.uint8))


def _other_size(root: Path) -> None:
    write(_mask(root), np.zeros((64, 64), np.uint8))


def _missing_label(root: Path) -> None:
    _mask(root).unlink()


def _copied_scene(root: Path) -> None:
    original = root / "train/img/12.jpg"
    (root / "test/img/140.jpg").write_bytes(original.read_bytes())


TRAPS = {
    "mask saved with loss": Trap(_saved_with_loss, r"12\.png: value 254 \(5 px\) stands for no"),
    "unknown colour": Trap(_unknown_color, r"colour \(64, 64, 64\) \(16384 px\)"),
    "other size": Trap(_other_size, "-64 rows, -64 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*train_12"),
    "same image in two splits": Trap(_copied_scene, "the same bytes", found_by="verify"),
}

"""iSAID as its publisher ships it: training archives still packed, validation unpacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, colored, pixels, write, zip_folder

PALETTE = {
    0: (0, 0, 0),
    1: (0, 0, 63),
    2: (0, 63, 63),
    3: (0, 63, 0),
    4: (0, 63, 127),
    5: (0, 63, 191),
    6: (0, 63, 255),
    7: (0, 127, 63),
    8: (0, 127, 127),
    9: (0, 0, 127),
    10: (0, 0, 191),
    11: (0, 0, 255),
    12: (0, 191, 127),
    13: (0, 127, 191),
    14: (0, 127, 255),
    15: (0, 100, 155),
}
SCENES = {
    "train": {"P0000": (96, 120), "P0002": (33, 45), "P0005": (101, 64), "P0021": (64, 64)},
    "val": {"P0003": (90, 77), "P0004": (64, 64)},
    "test": {"P0006": (64, 80)},
}
HELD_OUT = "P0021"
COUNTS = {"train": 4, "val": 2, "test": 1}
WITHOUT_MASK = "P1527"
GREY = "P0004"


def make(root: Path) -> None:
    for split, scenes in SCENES.items():
        for scene, size in scenes.items():
            _scene(root, split, scene, size)
        annotations = root / split / f"Annotations/iSAID_{split}.json"
        annotations.parent.mkdir()
        annotations.write_text("{}")
    write(root / f"train/images/part1/images/{WITHOUT_MASK}.png", np.ones((3, 16, 16), np.uint8))
    for folder in ("train/images/part1", "test/images/part1"):
        zip_folder(root / folder, root / f"{folder}.zip")
    for kind in ("Semantic", "Instance"):
        inner = root / f"train/{kind}_masks"
        inner.rename(root / "images")
        zip_folder(root / "images", inner / "images.zip")


def _scene(root: Path, split: str, scene: str, size: tuple[int, int]) -> None:
    ids = truth(scene, size)
    part = "" if split == "val" else "part1/images/"
    bands = pixels(ids, 1 if scene == GREY else 3, "uint8", int(scene[1:]))
    write(root / f"{split}/images/{part}{scene}.png", bands)
    if split != "test":
        masks = root / split
        write(semantic(masks, scene), colored(ids, PALETTE))
        write(masks / f"Instance_masks/images/{scene}_instance_id_RGB.png", instances(ids))


def truth(scene: str, size: tuple[int, int]) -> np.ndarray:
    return class_ids(*size, range(16), int(scene[1:]))


def semantic(folder: Path, scene: str) -> Path:
    """The class mask; its name says instance."""
    return folder / f"Semantic_masks/images/{scene}_instance_color_RGB.png"


def instances(ids: np.ndarray) -> np.ndarray:
    """A colour for each object, (3, height, width)."""
    number = np.cumsum(ids > 0, axis=1)
    return np.stack([number % 251, number * 7 % 253, number * 13 % 255]).astype(np.uint8)


def _val(root: Path) -> Path:
    return semantic(root / "val", "P0003")


def _instances_as_classes(root: Path) -> None:
    write(_val(root), instances(truth("P0003", SCENES["val"]["P0003"])))


def _swapped_bands(root: Path) -> None:
    write(_val(root), colored(truth("P0003", SCENES["val"]["P0003"]), PALETTE)[::-1])


def _other_size(root: Path) -> None:
    write(_val(root), np.zeros((3, 90, 79), np.uint8))


def _missing_label(root: Path) -> None:
    _val(root).unlink()


def _twice(root: Path) -> None:
    write(root / "val/images/copy/P0003.png", np.ones((3, 90, 77), np.uint8))


TRAPS = {
    "instances as classes": Trap(
        _instances_as_classes, r"P0003_instance_color_RGB.png: colour .* is in no class.*instances"
    ),
    "blue and red swapped": Trap(
        _swapped_bands, r"P0003_instance_color_RGB.png: colour \(191, 0, 0\) \(\d+ px\)"
    ),
    "other size": Trap(_other_size, "\\+0 rows, \\+2 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*P0003"),
    "twice": Trap(_twice, "are both the rgb of scene 'P0003'"),
}

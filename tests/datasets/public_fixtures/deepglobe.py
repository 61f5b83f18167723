"""DeepGlobe Land Cover as its publisher and the Kaggle copy of it ship it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, colored, pixels, write

PALETTE = {
    0: (0, 255, 255),
    1: (255, 255, 0),
    2: (255, 0, 255),
    3: (0, 255, 0),
    4: (0, 0, 255),
    5: (255, 255, 255),
    255: (0, 0, 0),
}
SCENES = {
    "train": {
        **dict.fromkeys(("119", "606", "855", "10452", "100694"), (64, 64)),
        "2334": (71, 90),
    },
    "valid": {"1012": (64, 64), "10233": (64, 64)},
    "test": {"1027": (64, 64)},
}
STRICT = {"val": {"100694"}, "test": {"119", "855", "2334"}, "train": {"606", "10452"}}
COUNTS = {"train": 6, "val": 2, "test": 1}


def make(root: Path) -> None:
    rows = ["image_id,split,sat_image_path,mask_path"]
    for split, scenes in SCENES.items():
        for scene, size in scenes.items():
            ids = truth(scene, size)
            write(root / f"{split}/{scene}_sat.jpg", pixels(ids, 3, "uint8", int(scene)))
            mask = f"{split}/{scene}_mask.png" if split == "train" else ""
            if mask:
                write(root / mask, worn(colored(ids, PALETTE), int(scene)))
            rows.append(f"{scene},{split},{split}/{scene}_sat.jpg,{mask}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    (root / "class_dict.csv").write_text("name,r,g,b\nurban_land,0,255,255\n")


def truth(scene: str, size: tuple[int, int]) -> np.ndarray:
    return class_ids(*size, [*range(6), 255], int(scene))


def worn(mask: np.ndarray, seed: int) -> np.ndarray:
    """Masks hold values off 0 and 255, each on its side of 128."""
    off = np.random.default_rng(seed).integers(0, 128, mask.shape) * (mask[:1] != mask[1:2])
    return np.where(mask > 0, mask - off, off).astype(np.uint8)


def _mask(root: Path) -> Path:
    return root / "train/855_mask.png"


def _grey_mask(root: Path) -> None:
    """A mask of DeepGlobe's roads."""
    write(_mask(root), np.where(truth("855", (64, 64)) == 1, 255, 0).astype(np.uint8))


def _swapped_bands(root: Path) -> None:
    write(_mask(root), colored(truth("855", (64, 64)), PALETTE)[::-1])


def _other_size(root: Path) -> None:
    write(_mask(root), np.zeros((3, 32, 64), np.uint8))


def _missing_label(root: Path) -> None:
    _mask(root).unlink()


def _twice(root: Path) -> None:
    write(root / "copy/train/855_sat.jpg", np.ones((3, 64, 64), np.uint8))


TRAPS = {
    "grey mask": Trap(_grey_mask, r"855_mask.png: value .*255 \(\d+ px\).* stands for no class"),
    "blue and red swapped": Trap(_swapped_bands, r"855_mask.png: colour \(255, 0, 0\) .* in no"),
    "other size": Trap(_other_size, "-32 rows, \\+0 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*855"),
    "twice": Trap(_twice, "are both the rgb of scene '855'"),
}

"""ISPRS Vaihingen as the ISPRS ships it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, colored, pixels, write, zip_folder

PALETTE = {
    0: (255, 255, 255),
    1: (0, 0, 255),
    2: (0, 255, 255),
    3: (0, 255, 0),
    4: (255, 255, 0),
    5: (255, 0, 0),
    255: (0, 0, 0),
}
TRAIN = {1: (96, 72), 5: (95, 70), 37: (75, 76)}
VAL = {2: (103, 91), 38: (95, 143)}
COUNTS = {"train": 3, "val": 2}
MAIN = "ISPRS_semantic_labeling_Vaihingen"
FULL = f"{MAIN}_ground_truth_COMPLETE"
ERODED = f"{MAIN}_ground_truth_eroded_COMPLETE"


def make(root: Path) -> None:
    for area, size in {**TRAIN, **VAL}.items():
        full, eroded = truth(area, size)
        # No file has a place of its own; the full label has the name of the image.
        write(image(root, area), pixels(full, 3, "uint8", area))
        height = full.astype(np.float32) * 3 + 260
        write(root / f"{MAIN}/dsm/dsm_09cm_matching_area{area}.tif", height)
        write(full_mask(root, area), colored(full, PALETTE))
        if area in TRAIN:
            write(participants_mask(root, area), colored(full, PALETTE))
        write(eroded_mask(root, area), colored(eroded, PALETTE))
    # There is no image of area 9.
    write(eroded_mask(root, 9), np.zeros((3, 40, 40), np.uint8))
    zip_folder(root / ERODED, root / f"{ERODED}.zip")


def truth(area: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Full and eroded class ids."""
    full = class_ids(*size, range(6), area)
    eroded = full.copy()
    eroded[::8], eroded[:, ::8] = 255, 255
    return full, eroded


def image(root: Path, area: int) -> Path:
    return root / f"{MAIN}/top/top_mosaic_09cm_area{area}.tif"


def full_mask(root: Path, area: int) -> Path:
    return root / f"{FULL}/top_mosaic_09cm_area{area}.tif"


def participants_mask(root: Path, area: int) -> Path:
    return root / f"{MAIN}/gts_for_participants/top_mosaic_09cm_area{area}.tif"


def eroded_mask(root: Path, area: int) -> Path:
    return root / f"{ERODED}/top_mosaic_09cm_area{area}_noBoundary.tif"


def _unknown_color(root: Path) -> None:
    values = colored(truth(2, VAL[2])[0], PALETTE)
    values[:, 3:5, :9] = np.array([[[252]], [[255]], [[0]]])
    write(full_mask(root, 2), values)


def _image_as_label(root: Path) -> None:
    full_mask(root, 2).write_bytes(image(root, 2).read_bytes())


def _other_size(root: Path) -> None:
    write(full_mask(root, 38), np.zeros((3, 96, 142), np.uint8))


def _missing_label(root: Path) -> None:
    full_mask(root, 2).unlink()


def _twice(root: Path) -> None:
    write(root / "copy/top/top_mosaic_09cm_area5.tif", np.ones((3, 95, 70), np.uint8))


def _foreign_area(root: Path) -> None:
    write(image(root, 9), np.ones((3, 40, 40), np.uint8))


def _ids_as_label(root: Path) -> None:
    write(full_mask(root, 2), truth(2, VAL[2])[0].astype(np.uint8))


def _other_archive(root: Path) -> None:
    zip_folder(root / FULL, root / f"{FULL}.zip")


TRAPS = {
    "unknown colour": Trap(
        _unknown_color, r"COMPLETE/top_mosaic_09cm_area2.tif: colour \(252, 255, 0\) \(18 px\)"
    ),
    "image as label": Trap(_image_as_label, r"COMPLETE/top_mosaic_09cm_area2.tif: colour .* and"),
    "other size": Trap(_other_size, "\\+1 rows, -1 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*'full' mask \\(2\\)"),
    "twice": Trap(_twice, "are both the irrg of scene '5'"),
    "foreign area": Trap(_foreign_area, "'9' .* is in no split"),
    "ids of some tool": Trap(_ids_as_label, r"area2.tif: value .* stands for no class"),
    "archive packed again": Trap(
        _other_archive, "COMPLETE.zip: its md5 is .* published is 4802dd", found_by="verify"
    ),
}

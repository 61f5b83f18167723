"""ISPRS Potsdam as the ISPRS ships it."""

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
SCENES = {"2_10": (96, 96), "3_11": (96, 96), "7_12": (90, 101), "2_13": (96, 96), "7_13": (96, 96)}
COUNTS = {"train": 3, "val": 2}
ORTHO_IRRG = "3_Ortho_IRRG/3_Ortho_IRRG"  # archives of images hold a folder of their own name


def make(root: Path) -> None:
    for number, (scene, size) in enumerate(SCENES.items()):
        add_scene(root, scene, size, number)
    (root / "2_Ortho_RGB/top_potsdam_2_10_RGB.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    for folder in ("3_Ortho_IRRG", "5_Labels_all_noBoundary"):
        zip_folder(root / folder, root / f"{folder}.zip")


def add_scene(root: Path, scene: str, size: tuple[int, int], number: int) -> None:
    full, eroded = truth(size, number)
    bands, place = pixels(full, 4, "uint8", number), number * 1000
    row, col = map(int, scene.split("_"))
    write(root / f"2_Ortho_RGB/top_potsdam_{scene}_RGB.tif", bands[:3], place=place)
    write(root / f"{ORTHO_IRRG}/top_potsdam_{scene}_IRRG.tif", bands[[3, 0, 1]], place=place)
    write(root / f"4_Ortho_RGBIR/top_potsdam_{scene}_RGBIR.tif", bands, place=place)
    height = full.astype(np.float32) * 3 + 30
    write(root / f"1_DSM/dsm_potsdam_{row:02d}_{col:02d}.tif", height, place=place)
    # Labels have no place of their own.
    write(full_mask(root, scene), colored(full, PALETTE))
    path = root / f"5_Labels_all_noBoundary/top_potsdam_{scene}_label_noBoundary.tif"
    write(path, colored(eroded, PALETTE))


def truth(size: tuple[int, int], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Full and eroded class ids of the scene of that number."""
    full = class_ids(*size, range(6), number)
    eroded = full.copy()
    eroded[::8], eroded[:, ::8] = 255, 255
    return full, eroded


def full_mask(root: Path, scene: str = "2_10") -> Path:
    return root / f"5_Labels_all/top_potsdam_{scene}_label.tif"


def _unknown_color(root: Path) -> None:
    values = colored(truth((96, 96), 0)[0], PALETTE)
    values[:, :7, :9] = 128
    write(full_mask(root), values)


def _instances(root: Path) -> None:
    """Grey values that count objects."""
    write(full_mask(root), np.stack([np.arange(96 * 96).reshape(96, 96) % 250] * 3).astype("uint8"))


def _other_size(root: Path) -> None:
    write(full_mask(root), np.zeros((3, 95, 96), np.uint8))


def _missing_label(root: Path) -> None:
    full_mask(root).unlink()


def _twice(root: Path) -> None:
    path = root / "copy/top_potsdam_2_10_RGB.tif"
    write(path, np.ones((3, 96, 96), np.uint8))


def _foreign_scene(root: Path) -> None:
    for name in ("2_Ortho_RGB/top_potsdam_9_99_RGB.tif", "5_Labels_all/top_potsdam_9_99_label.tif"):
        write(root / name, np.full((3, 16, 16), 255, np.uint8))


def _other_archive(root: Path) -> None:
    zip_folder(root / "4_Ortho_RGBIR", root / "4_Ortho_RGBIR.zip")


TRAPS = {
    "unknown colour": Trap(
        _unknown_color, r"top_potsdam_2_10_label.tif: colour \(128, 128, 128\) \(63 px\) is in no"
    ),
    "instances": Trap(_instances, r"top_potsdam_2_10_label.tif: colour .* is in no class"),
    "other size": Trap(_other_size, "-1 rows, \\+0 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*2_10"),
    "twice": Trap(_twice, "are both the rgb of scene '2_10'"),
    "foreign scene": Trap(_foreign_scene, "'9_99' .* is in no split"),
    "archive packed again": Trap(
        _other_archive, "4_Ortho_RGBIR.zip: its md5 is .* published is c4a8f7", found_by="verify"
    ),
}

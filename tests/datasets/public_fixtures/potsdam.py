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


def make(root: Path) -> None:
    for number, (scene, size) in enumerate(SCENES.items()):
        ids = class_ids(*size, range(6), number)
        eroded = ids.copy()
        eroded[::8], eroded[:, ::8] = 255, 255
        bands, place = pixels(ids, 4, "uint8", number), number * 1000
        row, col = scene.split("_")
        write(root / f"2_Ortho_RGB/top_potsdam_{scene}_RGB.tif", bands[:3], place=place)
        write(root / f"3_Ortho_IRRG/top_potsdam_{scene}_IRRG.tif", bands[[3, 0, 1]], place=place)
        write(root / f"4_Ortho_RGBIR/top_potsdam_{scene}_RGBIR.tif", bands, place=place)
        height = ids.astype(np.float32) * 3 + 30
        write(root / f"1_DSM/dsm_potsdam_{int(row):02d}_{int(col):02d}.tif", height, place=place)
        for folder, name, mask in (
            ("5_Labels_all", "label", ids),
            ("5_Labels_all_noBoundary", "label_noBoundary", eroded),
        ):
            path = root / folder / f"top_potsdam_{scene}_{name}.tif"
            write(path, colored(mask, PALETTE), place=place)
    (root / "2_Ortho_RGB/top_potsdam_2_10_RGB.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    for folder in ("4_Ortho_RGBIR", "5_Labels_all_noBoundary"):
        zip_folder(root / folder, root / f"{folder}.zip")


def _full_mask(root: Path, scene: str = "2_10") -> Path:
    return root / f"5_Labels_all/top_potsdam_{scene}_label.tif"


def _unknown_color(root: Path) -> None:
    write(_full_mask(root), np.full((3, 96, 96), 77, np.uint8))


def _other_size(root: Path) -> None:
    write(_full_mask(root), np.zeros((3, 95, 96), np.uint8))


def _missing_label(root: Path) -> None:
    _full_mask(root).unlink()


def _twice(root: Path) -> None:
    path = root / "copy/top_potsdam_2_10_RGB.tif"
    write(path, np.ones((3, 96, 96), np.uint8))


def _foreign_scene(root: Path) -> None:
    for name in ("2_Ortho_RGB/top_potsdam_9_99_RGB.tif", "5_Labels_all/top_potsdam_9_99_label.tif"):
        write(root / name, np.full((3, 16, 16), 255, np.uint8))


TRAPS = {
    "unknown colour": Trap(
        _unknown_color, r"top_potsdam_2_10_label.tif: colour \(77, 77, 77\) \(9216 px\)"
    ),
    "other size": Trap(_other_size, "-1 rows, \\+0 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*2_10"),
    "twice": Trap(_twice, "are both the rgb of scene '2_10'"),
    "foreign scene": Trap(_foreign_scene, "'9_99' .* is in no split"),
}

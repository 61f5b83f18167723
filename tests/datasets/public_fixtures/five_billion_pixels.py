"""Five-Billion-Pixels as its folders are shared: 16 and 8 bit, masks by colour and by index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, colored, pixels, write, zip_folder

COLORS = """
0 0 0, 200 0 0, 0 200 0, 150 250 0, 150 200 150, 200 0 200, 150 0 250, 150 150 250, 200 150 200,
250 200 0, 200 200 0, 0 0 200, 250 0 150, 0 150 200, 0 200 250, 150 200 250, 250 250 250,
200 200 200, 200 150 150, 250 200 150, 150 150 0, 250 150 150, 250 150 0, 250 200 250, 200 150 0
"""
PALETTE = {
    number: (int(red), int(green), int(blue))
    for number, text in enumerate(COLORS.split(","))
    for red, green, blue in [text.split()]
}
SCENES = {
    "GF2_PMS1__L1A0001680851-MSS1": (96, 104),
    "GF2_PMS1__L1A0000647767-MSS1": (97, 105),
    "GF2_PMS2__L1A0001206072-MSS2": (96, 104),
    "GF2_PMS1__L1A0001064454-MSS1": (96, 104),
    "GF2_PMS2__L1A0000607677-MSS2": (96, 104),
}
COUNTS = {"train": 3, "test": 2}
HELD_OUT = "GF2_PMS1__L1A0001680851-MSS1"


def make(root: Path) -> None:
    """The 8-bit TIFFs are tagged CMYK, as the real ones; the 16-bit ones lie in an archive."""
    for number, scene in enumerate(SCENES):
        raw, ids = values(scene), truth(scene)
        write(root / f"Image_16bit_BGRNir/{scene}.tiff", raw)
        eight = (raw[[3, 2, 1, 0]] // 8).astype(np.uint8)
        write(root / f"Image__8bit_NirRGB/{scene}.tif", eight, photometric="CMYK")
        write(root / f"Annotation__color/{scene}_24label.tif", colored(ids, PALETTE))
        write(root / f"Annotation__index/{scene}_24label.png", ids.astype(np.uint8))
        rpb = root / f"Coordinate_files/{scene}.rpb"
        rpb.parent.mkdir(exist_ok=True)
        rpb.write_text(f'satId = "GF2";\nbandId = "{number}";\n')
    # Masks of GID-15 show the same scenes in other classes.
    write(root / f"GID15/{HELD_OUT}_15label.png", np.full(SCENES[HELD_OUT], 15, np.uint8))
    zip_folder(root / "Image_16bit_BGRNir", root / "Image_16bit_BGRNir.zip")


def truth(scene: str) -> np.ndarray:
    """Ids of a scene: 1 to 24, 0 where nothing is labelled."""
    return class_ids(*SCENES[scene], range(25), [*SCENES].index(scene))


def values(scene: str) -> np.ndarray:
    """Blue, green, red and near infrared of a scene, ten bits of uint16."""
    return pixels(truth(scene), 4, "uint16", [*SCENES].index(scene), top=1000)


def _mask(root: Path, scene: str = HELD_OUT) -> Path:
    return root / f"Annotation__index/{scene}_24label.png"


def _unknown_id(root: Path) -> None:
    ids = truth(HELD_OUT)
    ids[:2, :3] = 25
    write(_mask(root), ids.astype(np.uint8))


def _other_size(root: Path) -> None:
    write(_mask(root), np.ones((97, 104), np.uint8))


def _missing_label(root: Path) -> None:
    """Of either kind, as one can stand in for the other."""
    _mask(root).unlink()
    (root / f"Annotation__color/{HELD_OUT}_24label.tif").unlink()


def _unknown_color(root: Path) -> None:
    _mask(root).unlink()
    path = root / f"Annotation__color/{HELD_OUT}_24label.tif"
    write(path, np.full((3, *SCENES[HELD_OUT]), 77, np.uint8))


def _twice(root: Path) -> None:
    path = root / f"Image__8bit_NirRGB/TrainSet_For_Baseline/{HELD_OUT}.tif"
    write(path, np.ones((4, *SCENES[HELD_OUT]), np.uint8))


TRAPS = {
    "unknown id": Trap(_unknown_id, r"_24label\.png: value 25 \(6 px\) stands for no class"),
    "other size": Trap(_other_size, r"\+1 rows, \+0 columns"),
    "missing label": Trap(_missing_label, f"1 scenes of labelled splits .*{HELD_OUT}"),
    "unknown colour": Trap(_unknown_color, r"colour \(77, 77, 77\) \(9984 px\)"),
    "twice": Trap(_twice, f"are both the nirrgb of scene '{HELD_OUT}'"),
}

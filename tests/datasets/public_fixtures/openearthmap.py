"""OpenEarthMap without its images from xBD: regions of many systems, sizes and names, and lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write

FOLDER = "OpenEarthMap/OpenEarthMap_wo_xBD"
SPLITS = {
    "train": ("aachen_1", "aachen_16", "les_cayes_2", "kujawsko-pomorskie_3"),
    "val": ("aachen_2", "saint_louis_du_sud_7"),
    "test": ("aachen_3", "kujawsko-pomorskie_4"),
}
XBD = {"train": ("tulsa_1",), "val": ("tulsa_2",), "test": ("tulsa_3",)}
SIZES = {"aachen_16": (90, 101), "saint_louis_du_sud_7": (113, 96)}
COUNTS = {"train": 4, "val": 2, "test": 2}
WITHOUT_CRS = ("les_cayes_2",)


def make(root: Path) -> None:
    folder = root / FOLDER
    for split, scenes in SPLITS.items():
        for scene in scenes:
            ids, seed = truth(scene), _seed(scene)
            place = None if scene in WITHOUT_CRS else seed * 1000
            write(_file(root, "images", scene), pixels(ids, 3, "uint8", seed), place=place)
            if split != "test":
                write(_file(root, "labels", scene), ids.astype(np.uint8), place=place)
        names = [f"{scene}.tif" for scene in (*scenes, *XBD[split])]
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n")
    for scene in (*XBD["train"], *XBD["val"]):
        write(_file(root, "labels", scene), truth(scene).astype(np.uint8))
    (folder / "xbd_files.csv").write_text("tulsa_00000022_pre_disaster.png,tulsa_1.tif\n")


def truth(scene: str) -> np.ndarray:
    """Ids of a scene, 0 (unlabelled) to 8."""
    return class_ids(*SIZES.get(scene, (96, 96)), range(9), _seed(scene))


def _seed(scene: str) -> int:
    names = [name for part in (SPLITS, XBD) for scenes in part.values() for name in scenes]
    return names.index(scene)


def _file(root: Path, kind: str, scene: str) -> Path:
    return root / FOLDER / scene.rpartition("_")[0] / kind / f"{scene}.tif"


def _missing_list(root: Path) -> None:
    (root / FOLDER / "val.txt").unlink()


def _listed_twice(root: Path) -> None:
    path = root / FOLDER / "val.txt"
    path.write_text(path.read_text() + "aachen_1.tif\n")


def _unknown_id(root: Path) -> None:
    ids = truth("aachen_1")
    ids[:4, :5] = 9
    write(_file(root, "labels", "aachen_1"), ids.astype(np.uint8), place=0)


def _other_size(root: Path) -> None:
    write(_file(root, "labels", "aachen_16"), np.ones((96, 96), np.uint8), place=1000)


def _missing_label(root: Path) -> None:
    _file(root, "labels", "les_cayes_2").unlink()


def _same_ground(root: Path) -> None:
    ids, seed = truth("aachen_2"), _seed("aachen_2")
    for kind, values in (("images", pixels(ids, 3, "uint8", seed)), ("labels", ids)):
        write(_file(root, kind, "aachen_2"), values.astype(np.uint8), place=40)


TRAPS = {
    "missing list": Trap(_missing_list, r"no file named val\\.txt lists the scenes of split 'val'"),
    "scene in two lists": Trap(_listed_twice, "lists 'aachen_1', which is in split 'train' too"),
    "unknown id": Trap(_unknown_id, r"labels/aachen_1\.tif: value 9 \(20 px\) stands for no class"),
    "other size": Trap(_other_size, r"aachen_16\.tif: .*\+6 rows, -5 columns"),
    "missing label": Trap(_missing_label, "1 scenes of labelled splits .*les_cayes_2"),
    "same ground in two splits": Trap(_same_ground, "shows the same ground", found_by="verify"),
}

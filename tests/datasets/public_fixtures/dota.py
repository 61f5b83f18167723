"""DOTA-v2.0 as downloaded: DOTA-v1.0 and further archives, of equal names in several folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write, zip_folder

NEW = {
    "train/images/part1": "P0000",
    "train/images/part4": "P2807",
    "val/images/part2": "P2808",
    "test-dev/images/part3": "P2900",
    "test-challenge/images/test-challenge-part1": "P10585",
}
OF_ISAID = {
    "val/images/part1": "P0003",
    "test/images/part1": "P0006",
    "test-dev/images/part2": "P2806",
}
UNPACKED = ("train/images/part4", "val/images/part1")
COUNTS = {"train": len(NEW)}


def make(root: Path) -> None:
    """Some archives are unpacked; images of one name from two splits of iSAID must not be taken."""
    for number, (folder, name) in enumerate((NEW | OF_ISAID).items()):
        ids = class_ids(80 + 8 * number, 120, range(4), number)
        write(root / folder / f"images/{name}.png", pixels(ids, 3, "uint8", number))
        if folder not in UNPACKED:
            zip_folder(root / folder, root / f"{folder}.zip")
    boxes = root / "train/labelTxt-v1.0/labelTxt"
    boxes.mkdir(parents=True)
    (boxes / "P0000.txt").write_text("gsd:0.14\n1 1 9 1 9 9 1 9 ship 0\n")
    zip_folder(boxes, root / "train/labelTxt-v1.0/labelTxt.zip")
    mask = np.zeros((3, 80, 120), np.uint8)
    write(root / "train/Semantic_masks/images/P0000_instance_color_RGB.png", mask)


def _twice(root: Path) -> None:
    write(root / "train/images/P2807.png", np.ones((3, 32, 32), np.uint8))


def _empty(root: Path) -> None:
    (root / "train/images/part4/images/P2807.png").write_bytes(b"")


def _damaged_archive(root: Path) -> None:
    path = root / "val/images/part2.zip"
    path.write_bytes(path.read_bytes()[:-100])


def _not_as_published(root: Path) -> None:
    (root / "dotav1.0_images_train.tar.gz").write_bytes(b"\x1f\x8b not all of it")


TRAPS = {
    "twice": Trap(_twice, "are both the rgb of scene 'P2807'"),
    "empty image": Trap(_empty, r"P2807\.png: the file is empty"),
    "damaged archive": Trap(_damaged_archive, "part2.zip is damaged or incomplete"),
    "archive not as published": Trap(_not_as_published, r"images_train\.tar\.gz.*damaged"),
}

"""Million-AID as it unpacks: class folders of two depths for train, one flat folder for test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from public_fixtures.common import Trap, class_ids, pixels, write, zip_folder

IMAGES = {
    "train/water_area/beach/P0060208.jpg": (256, 256),
    "train/agriculture_land/arable_land/dry_field/P0335343.jpg": (130, 222),
    "train/agriculture_land/arable_land/dry_field/P0335344.jpg": (61, 58),
    "test/P0000001.jpg": (96, 97),
    "test/P0100002.jpg": (96, 96),
}
COUNTS = {"train": 5}


def make(root: Path) -> None:
    """The labelled images lie in an archive; sizes differ, one is smaller than a patch."""
    for number, (name, size) in enumerate(IMAGES.items()):
        ids = class_ids(*size, range(5), number)
        write(root / name, pixels(ids, 3, "uint8", number), quality=90)
    (root / "packed").mkdir()
    (root / "train").rename(root / "packed/train")
    zip_folder(root / "packed", root / "train.zip")


def _twice(root: Path) -> None:
    write(root / "test/copy/P0000001.jpg", np.ones((3, 32, 32), np.uint8))


def _empty(root: Path) -> None:
    (root / "test/P0000001.jpg").write_bytes(b"")


def _cut_off(root: Path) -> None:
    path = root / "train.zip"
    path.write_bytes(path.read_bytes()[:-100])


def _parts(root: Path) -> None:
    (root / "test.zip.001").write_bytes(b"PK\x03\x04")


TRAPS = {
    "twice": Trap(_twice, "are both the rgb of scene 'test_P0000001'"),
    "empty image": Trap(_empty, r"P0000001\.jpg: the file is empty"),
    "damaged archive": Trap(_cut_off, "train.zip is damaged or incomplete"),
    "archive in parts": Trap(_parts, r"test\.zip\.001 is one of .*cat test\.zip"),
}

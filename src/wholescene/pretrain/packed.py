"""Files of very many scenes in two tensors that all processes share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from wholescene.datasets import SceneRecord

__all__ = ["PackedRecords"]


class PackedRecords:
    """The images of scenes, taken apart one by one when they are asked for.

    A list of records would be copied into every process that reads: worker processes get a copy of
    all Python objects, at once or little by little. Tensors they share, however they are started.

    Args:
        records: Scenes, in order; only id, split and files are kept.
    """

    def __init__(self, records: Iterable[SceneRecord]) -> None:
        packed = [_pack(record) for record in records]
        ends = np.cumsum([0, *map(len, packed)], dtype=np.int64)
        content = np.frombuffer(b"".join(packed), dtype=np.uint8).copy()
        self._ends = torch.from_numpy(ends)
        self._content = torch.from_numpy(content)

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._ends) - 1

    def __getitem__(self, scene: int) -> SceneRecord:
        """Record of a scene, without its labels.

        Raises:
            IndexError: If there is no such scene.
        """
        if not 0 <= scene < len(self):
            raise IndexError(f"scene {scene} of {len(self)}")
        start, stop = self._ends[scene : scene + 2].tolist()
        return _unpack(self._content[start:stop].numpy().tobytes())


def _pack(record: SceneRecord) -> bytes:
    files = {source: [str(path) for path in paths] for source, paths in record.files.items()}
    return json.dumps([record.id, record.split, files], ensure_ascii=False).encode()


def _unpack(content: bytes) -> SceneRecord:
    name, split, files = json.loads(content)
    return SceneRecord(
        id=name,
        split=split,
        files={source: tuple(map(Path, paths)) for source, paths in files.items()},
    )

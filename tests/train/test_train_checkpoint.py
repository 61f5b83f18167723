from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wholescene.errors import OutputError, ResumeError
from wholescene.train.checkpoint import AtomicCheckpointIO, read_checkpoint


class Hostile:
    """Runs a command when it is unpickled the ordinary way."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile",)


def test_checkpoint_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 3, "weight": torch.arange(3)}, path)
    read = read_checkpoint(path)
    assert read["step"] == 3
    assert read["weight"].tolist() == [0, 1, 2]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_failed_write_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def fill_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fill_disk)
    with pytest.raises(OutputError, match=r"last\.ckpt.*No space left.*--resume"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_reading_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"step": Hostile()}, "last.ckpt")
    with pytest.raises(ResumeError, match=r"cannot read checkpoint last\.ckpt"):
        read_checkpoint(Path("last.ckpt"))
    assert not Path("hostile").exists()


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"no checkpoint .*without --resume"):
        read_checkpoint(tmp_path / "last.ckpt")

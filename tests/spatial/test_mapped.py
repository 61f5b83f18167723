"""Values that are kept in files."""

from pathlib import Path

import pytest
import torch

from wholescene.spatial import Streamer
from wholescene.spatial.mapped import MappedFile

STATUS = Path("/proc/self/status")
MIB = 1 << 20

needs_proc = pytest.mark.skipif(not STATUS.exists(), reason=f"no {STATUS}")


def file_backed_bytes() -> int:
    """Bytes of mapped files that count as memory of this process."""
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell")


def test_what_is_unloaded_can_be_read_and_is_in_the_file(tmp_path: Path):
    file = MappedFile(tmp_path / "value.raw", 8)
    file.tensor.copy_(torch.arange(8))
    file.unload()
    assert file.tensor.tolist() == list(range(8))
    assert (tmp_path / "value.raw").read_bytes() == bytes(range(8))


def test_a_file_that_exists_keeps_what_it_holds(tmp_path: Path):
    (tmp_path / "value.raw").write_bytes(bytes([1, 2, 3]))
    assert MappedFile(tmp_path / "value.raw", 3).tensor.tolist() == [1, 2, 3]
    assert MappedFile(tmp_path / "value.raw", 5).tensor.tolist() == [1, 2, 3, 0, 0]


@needs_proc
def test_unloading_gives_the_memory_back(tmp_path: Path):
    before = file_backed_bytes()
    file = MappedFile(tmp_path / "value.raw", 64 * MIB)
    file.tensor.fill_(1)
    held = file_backed_bytes()
    file.unload()
    assert held - before >= 60 * MIB
    assert file_backed_bytes() - before <= 4 * MIB


@needs_proc
def test_kept_values_in_files_do_not_count_as_memory(tmp_path: Path):
    class Standardized(torch.nn.Module):
        """Keeps 32 channels until their mean over the scene is known."""

        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(1, 32, 3, padding=1)
            self.last = torch.nn.Conv2d(32, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(x - x.mean((2, 3), keepdim=True))

    engine = Streamer(Standardized().eval(), (1, 1, 768, 768), block=64, spilled=True)
    kept = sum(note.num_bytes for note in engine.plan.kept)
    before, most = file_backed_bytes(), 0
    image = torch.randn(1, 1, 768, 768)
    for _ in engine.rows(image, lambda *_: None, spill_dir=tmp_path):
        most = max(most, file_backed_bytes() - before)
    assert kept >= 70 * MIB
    assert most <= kept / 4

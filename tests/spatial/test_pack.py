"""Weights in the order that oneDNN computes in: turned beforehand, for all sizes of steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.backends import mkldnn

from wholescene.spatial import Streamer

SHAPE = (1, 3, 112, 112)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 512, 1), nn.Conv2d(512, 512, 3, padding=1)).eval()


@pytest.mark.skipif(not mkldnn.is_available(), reason="torch was built without oneDNN")
def test_no_step_turns_weights(module: nn.Module, capfd: pytest.CaptureFixture[str]) -> None:
    """Which orders there are depends on the CPU: several for these sizes with AVX2."""
    image = torch.randn(SHAPE).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = module(image)
    ready, found = Streamer(module, SHAPE, block=32, memory="4GiB"), torch.empty_like(expected)

    def sink(rows: slice, cols: slice, part: Tensor) -> None:
        found[..., rows, cols] = part

    with mkldnn.verbose(mkldnn.VERBOSE_ON):
        for _ in ready.rows(image, sink):
            pass
    said = capfd.readouterr().out.splitlines()
    assert any("exec,cpu,convolution" in line for line in said)
    assert not [line for line in said if "exec,cpu,reorder" in line and "512x512" in line]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

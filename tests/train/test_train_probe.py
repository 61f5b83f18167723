from __future__ import annotations

import torch
from tiny_dataset import tiny_segmenter
from torch import Tensor, nn

from wholescene.geometry import Size
from wholescene.train.probe import probe_step

PATCH = Size(32, 32)


def test_weights_a_step_does_not_reach_are_named() -> None:
    model = tiny_segmenter(auxiliary=True)
    model.encoder.register_parameter("spare", nn.Parameter(torch.zeros(1)))
    probe = probe_step(model, batch_size=2, patch=PATCH)
    assert probe is not None
    assert probe.unreached == ("encoder.spare",)


def test_activations_grow_with_the_batch_and_weights_do_not() -> None:
    probes = [probe_step(tiny_segmenter(), batch_size=size, patch=Size(64, 64)) for size in (2, 4)]
    assert probes[0] is not None
    assert probes[1] is not None
    ratio = probes[1].activation_bytes / probes[0].activation_bytes
    assert 1.9 < ratio <= 2
    assert probes[0].num_parameters == sum(p.numel() for p in tiny_segmenter().parameters())


class OneLayer(nn.Module):
    """Keeps its input (for the weight's gradient) and nothing else."""

    spec = tiny_segmenter().spec

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)

    def forward_train(self, image: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        return {"out": self.conv(image)}


def test_activation_bytes_by_hand() -> None:
    probe = probe_step(OneLayer(), batch_size=5, patch=PATCH)  # type: ignore[arg-type]
    assert probe is not None
    assert probe.activation_bytes == 4 * 5 * 2 * 32 * 32


class LooksAtValues(OneLayer):
    def forward_train(self, image: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        return {"out": self.conv(image) * float(image.max())}


def test_network_that_looks_at_values_cannot_be_probed() -> None:
    assert probe_step(LooksAtValues(), batch_size=1, patch=PATCH) is None  # type: ignore[arg-type]


def test_probe_leaves_the_network_alone() -> None:
    model = tiny_segmenter()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe_step(model, batch_size=2, patch=PATCH)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())

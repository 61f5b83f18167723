"""A loss and its gradients over ranks are those of one process."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import together

from wholescene.labels import IGNORE_INDEX
from wholescene.losses import LossSettings, build_loss
from wholescene.models import Architecture, ClassSpec, ModelSpec, build_segmenter
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.spatial import reduce_gradients
from wholescene.train.rows import SharedRows

TERMS = ("cross_entropy", "dice", "lovasz", "focal")


def loss_differs(group: dist.ProcessGroup, term: str) -> dict[str, float]:
    """Relative differences of the loss and of all gradients in training mode."""
    rows, spec = dist.get_world_size(group), _spec()
    torch.manual_seed(0)
    plain = build_segmenter(spec).double().train()
    for part in plain.modules():
        if isinstance(part, torch.nn.Dropout | torch.nn.Dropout2d):
            part.p = 0.0  # what it drops is chosen otherwise over ranks
    model = copy.deepcopy(plain)
    image = torch.randn(1, 2, 75, 64, dtype=torch.float64)
    label = torch.randint(0, 3, (1, 75, 64))
    label[:, :20] = IGNORE_INDEX
    loss = build_loss(LossSettings(terms={term: 1.0}, class_weights=(1.0, 2.0, 0.5)))  # type: ignore[dict-item]
    expected = loss(plain.forward_train(image), label)
    expected.backward()
    shared = SharedRows(rows, model)
    shared._group = group
    batch: Any = {"image": image, "label": label}
    found = shared.loss(loss, batch)
    found.backward()
    reduce_gradients(model, group)
    gaps = {"loss": abs(float(found.detach() - expected.detach())) / abs(float(expected.detach()))}
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None, name
        assert theirs.grad is not None, name
        gap = (ours.grad / rows - theirs.grad).abs().max() / theirs.grad.abs().max().clamp(1e-9)
        gaps[name] = float(gap)
    for (name, ours), theirs in zip(model.named_buffers(), plain.buffers(), strict=True):
        gaps[name] = float((ours.double() - theirs.double()).abs().max())
    return gaps


def _spec() -> ModelSpec:
    options = {"channels": 8, "bins": [2, 3]}
    return ModelSpec(
        architecture=Architecture(
            encoder="test_resnet", decoder="upernet", decoder_options=options, auxiliary=True
        ),
        sources=(SourceSpec(bands=(BandSpec(name="red"), BandSpec(name="nir"))),),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        classes=tuple(ClassSpec(id=i, name=str(i), color=(i, 0, 0)) for i in range(3)),
    )


@pytest.mark.parametrize("term", TERMS)
def test_losses_over_ranks(term: str) -> None:
    for gaps in together(2, loss_differs, term):
        assert isinstance(gaps, dict), gaps
        assert max(gaps.values()) < 1e-6, {k: v for k, v in gaps.items() if v >= 1e-6}

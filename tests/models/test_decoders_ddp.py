"""Every decoder on common encoders: over two processes, exported, and streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wholescene.errors import ConfigError, UnsupportedError
from wholescene.labels import IGNORE_INDEX
from wholescene.launch import run_ranks
from wholescene.losses import CombinedLoss, CrossEntropy
from wholescene.models import (
    DECODERS,
    Architecture,
    ClassSpec,
    ModelSpec,
    Segmenter,
    build_segmenter,
)
from wholescene.raster.source import BandSpec, SourceSpec
from wholescene.spatial import stream
from wholescene.train.progress import TrainProgress

pytestmark = pytest.mark.slow

QUERIES = {"channels": 32, "hidden": 64, "points": 256}
NARROW: dict[str, dict[str, Any]] = {
    "upernet": {"channels": 64},
    "contrast": {"channels": 64},
    "pointrend": {"channels": 64, "points": 256},
    "mask2former": {**QUERIES, "queries": 12, "layers": 3},
    "segvit": QUERIES,
    "setr": {"channels": 32},
    "dpt": {"channels": 32, "neck": (8, 16, 24, 32)},
    "smp-deeplabv3": {"channels": 32},
    "smp-deeplabv3plus": {"channels": 32},
}
"""Options for speed; the others are as they come."""
ALL = {"levels": "all"}
SIXTEEN = {"output_stride": 16}
HRNET = {"feature_location": "", "out_indices": [1, 2, 3, 4]}
DEEPLABS = {"smp-deeplabv3", "smp-deeplabv3plus"}
DILATED = dict.fromkeys(DEEPLABS, SIXTEEN)
PLAIN = {
    "dpt": {"out_indices": [2, 4, 6, 8]},
    "segvit": {"out_indices": [4, 6, 8]},
    "setr": {"out_indices": [8]},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "resnet18": {"options": DILATED, "without": {"dpt"}},
    "convnext_tiny": {"options": DILATED, "without": {"dpt"}},
    "hrnet_w18": {
        "options": dict.fromkeys(DECODERS, HRNET),
        "decoder": dict.fromkeys(("fcn", "pspnet", "danet", "deeplabv3", "ocrnet"), ALL),
        "without": {"dpt", "deeplabv3plus", "segvit", "setr", "stdc", *DEEPLABS},
    },
    "stdc1": {"options": {}, "without": {"dpt", *DEEPLABS}},
    "test_vit3": {"options": PLAIN, "without": DECODERS.keys() - PLAIN.keys()},
}
"""For each encoder its options by decoder, options of the decoder, and what it does not go with:
DPT reads plain ViTs, smp's DeepLab needs an output stride of 16 or 8, and HRNet is read whole. The
plain ViT is here for the decoders that are made for it."""
SIDES = {"smp-pan": 256}
"""Of the patches it trains on; 64 px for the others."""
SCENES = {"smp-pan": (256, 320), "smp-manet": (192, 320)}
"""192 x 256 px for the others. MA-Net reads pixels as channels, for which streaming has a rule as
long as the channels are no multiple of the pixels of the coarsest map."""
PAIRS = [
    (encoder, decoder)
    for encoder, how in ENCODERS.items()
    for decoder in DECODERS
    if decoder not in how["without"]
]


def build(encoder: str, decoder: str) -> Segmenter:
    how = ENCODERS[encoder]
    spec = ModelSpec(
        architecture=Architecture(
            encoder=encoder,
            decoder=decoder,
            encoder_options=how["options"].get(decoder, {}),
            decoder_options=NARROW.get(decoder, {}) | how.get("decoder", {}).get(decoder, {}),
        ),
        sources=(SourceSpec(bands=tuple(BandSpec(name=name) for name in "rgb")),),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=tuple(ClassSpec(id=i, name=f"class {i}", color=(i, 0, 0)) for i in range(3)),
    )
    torch.manual_seed(0)
    return build_segmenter(spec)


class Step(nn.Module):
    """A network with its loss, as one module for DDP."""

    def __init__(self, encoder: str, decoder: str) -> None:
        super().__init__()
        self.model = build(encoder, decoder)
        self.loss = CombinedLoss(
            {"cross_entropy": (CrossEntropy(), 1.0)},
            auxiliary_weights=DECODERS[decoder].auxiliary_weights,
        )

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        return self.loss(self.model.forward_train(image, target), target)


def batch(side: int, step: int) -> tuple[Tensor, Tensor]:
    """Two patches in two halves, others on each rank; those of rank 1 lack labels at step 1."""
    generator = torch.Generator().manual_seed(10 * step + dist.get_rank())
    target = torch.zeros(2, side, side, dtype=torch.int64)
    target[:, :, side // 2 :] = 1 + step % 2
    if step == 1 and dist.get_rank() == 1:
        target[:] = IGNORE_INDEX
    return torch.randn(2, 3, side, side, generator=generator), target


def train_three_steps(encoder: str, decoder: str) -> str:
    """Say what is wrong after three steps, or nothing."""
    step = Step(encoder, decoder).train()
    parallel = DistributedDataParallel(step, find_unused_parameters=False)
    optimiser = torch.optim.SGD(step.parameters(), lr=1e-3)
    start = [p.detach().clone() for p in step.parameters()]
    for number in range(3):
        optimiser.zero_grad()
        try:
            parallel(*batch(SIDES.get(decoder, 64), number)).backward()
        except RuntimeError as error:
            return str(error).splitlines()[0]
        optimiser.step()
    named = list(step.named_parameters())
    idle = [name for name, p in named if p.grad is None]
    broken = [name for name, p in named if not p.isfinite().all()]
    if not any((p != before).any() for (_, p), before in zip(named, start, strict=True)):
        return "nothing moved"
    own = torch.stack([p.detach().double().abs().sum() for _, p in named])
    first = own.clone()
    dist.broadcast(first, 0)
    apart = torch.tensor(float((own != first).sum()))
    dist.all_reduce(apart)
    return f"idle {idle}, broken {broken}, apart {apart}" if idle or broken or apart else ""


def train_decoders(encoder: str, decoders: list[str], say: TrainProgress) -> dict[str, str]:
    del say
    dist.init_process_group("gloo")
    found = {decoder: train_three_steps(encoder, decoder) for decoder in decoders}
    dist.destroy_process_group()
    return {decoder: error for decoder, error in found.items() if error}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_trains_over_two_processes(encoder: str) -> None:
    decoders = [decoder for name, decoder in PAIRS if name == encoder]
    work = partial(train_decoders, encoder, decoders)
    assert run_ranks(work, num_ranks=2, progress=None) == {}


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_exported_and_streamed_it_is_the_same(encoder: str, decoder: str) -> None:
    model = build(encoder, decoder).double().eval()
    generator = torch.Generator().manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    height, width = SCENES.get(decoder, (192, 256))
    image = torch.randn(1, 3, height, width, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        expected = model(image)
        exported = torch.export.export(model, (image,)).module()(image)
    largest = expected.abs().max()
    assert (exported - expected).abs().max() / largest < 1e-12
    found = stream(model, image, block=64, strict=True)
    assert (found - expected).abs().max() / largest < 1e-9


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "test_vit3"])
def test_what_is_left_out_is_refused(encoder: str) -> None:
    for decoder in ENCODERS[encoder]["without"]:
        with pytest.raises((ConfigError, UnsupportedError)):
            build(encoder, decoder)

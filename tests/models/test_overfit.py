"""Every decoder learns two patches by heart."""

import pytest
import torch

from wholescene.losses import CombinedLoss, CrossEntropy
from wholescene.models.decoders import DECODERS

SIDE, STEPS, AIM = 64, 400, 0.95
"""Most need 20 to 50 steps, STDC 190 to 240: rounding on the CPU decides."""
RATE = {16: 3e-3, 64: 1e-3}
"""Learning rate by the width of the ResNet-18: a quarter of the usual one, for speed, and that."""
SIXTEEN = {"output_stride": 16, "dilation": "published"}
NARROW: dict[str, tuple[dict, dict]] = {
    "fcn": ({}, SIXTEEN),
    "pspnet": ({"channels": 64}, SIXTEEN),
    "danet": ({"channels": 64}, SIXTEEN),
    "deeplabv3": ({"channels": 64}, SIXTEEN),
    "deeplabv3plus": ({"channels": 64}, SIXTEEN),
    "upernet": ({"channels": 64}, SIXTEEN),
    "ocrnet": ({"channels": 64}, SIXTEEN),
    "contrast": ({"levels": "last", "channels": 64, "min_pixels": 4}, SIXTEEN),
    "segformer": ({"channels": 64}, {}),
    "pointrend": ({"channels": 64}, {}),
    "smp-deeplabv3": ({"channels": 64}, {"output_stride": 16}),
    "smp-deeplabv3plus": ({"channels": 64}, {"output_stride": 16}),
}
"""Options of the decoder and of the encoder."""
ELSEWHERE = {"mask2former", "segvit", "setr", "dpt", "smp-pan"}
"""For plain ViTs, or whose loss need only halve, or for patches of 256 px and more: in the tests of
the transformer decoders."""


def patches() -> tuple[torch.Tensor, torch.Tensor]:
    """Two patches of 2 x 2 cells; a class has its own colour, under noise half as strong."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.tensor([[[0, 1], [2, 0]], [[1, 2], [2, 1]]])
    target = cells.repeat_interleave(SIDE // 2, 1).repeat_interleave(SIDE // 2, 2)
    colours = torch.randn(3, 4, generator=generator)
    noise = torch.randn(2, 4, SIDE, SIDE, generator=generator)
    return colours[target].permute(0, 3, 1, 2) + 0.5 * noise, target


def mean_iou(guess: torch.Tensor, target: torch.Tensor) -> float:
    scores = [
        ((guess == c) & (target == c)).sum() / ((guess == c) | (target == c)).sum()
        for c in range(3)
    ]
    return float(torch.stack(scores).mean())


@pytest.mark.parametrize("width", [16, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ELSEWHERE])
def test_two_patches_are_learnt_by_heart(make_model, name: str, width: int) -> None:
    options, encoder_options = NARROW.get(name, ({}, {}))
    encoder_options = {**encoder_options, "channels": (width, 2 * width, 4 * width, 8 * width)}
    model = make_model(
        "resnet18", name, decoder_options=options, encoder_options=encoder_options
    ).train()
    loss = CombinedLoss(
        {"cross_entropy": (CrossEntropy(), 1.0)},
        auxiliary_weights=DECODERS[name].auxiliary_weights,
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE[width], fused=True)
    image, target = patches()
    score = 0.0
    for step in range(1, STEPS + 1):
        optimiser.zero_grad()
        loss(model.forward_train(image, target), target).backward()
        optimiser.step()
        if step % 10 == 0:
            with torch.no_grad():
                score = mean_iou(model.eval()(image).argmax(1), target)
            model.train()
            if score > AIM:
                break
    assert score > AIM, f"{score:.3f} after {step} steps"

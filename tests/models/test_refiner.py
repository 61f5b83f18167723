"""Coarse-to-fine refinement against what its description says, written out."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wholescene.errors import ConfigError, InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.losses import LossSettings, build_loss
from wholescene.models import (
    Architecture,
    ClassSpec,
    ModelSpec,
    RefinedSegmenter,
    RefineSettings,
    build_segmenter,
)
from wholescene.models.windows import Place, choose_windows, cut_windows, window_sums
from wholescene.raster import BandSpec, SourceSpec

NAMES = ("land", "car", "water", "boat")
SMALL = (1, 3)
SIDE = 16


def make(**settings: object) -> RefinedSegmenter:
    chosen = {
        "classes": ("car", "boat"),
        "window_px": SIDE,
        "margin_px": 4,
        "encoder": "test_resnet",
        "decoder": "fcn",
        **settings,
    }
    spec = ModelSpec(
        architecture=Architecture(
            encoder="test_resnet", decoder="fcn", refine=RefineSettings(**chosen)
        ),
        sources=(SourceSpec(bands=tuple(BandSpec(name=n) for n in ("red", "green"))),),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        classes=tuple(ClassSpec(id=i, name=n, color=(i, 0, 0)) for i, n in enumerate(NAMES)),
    )
    torch.manual_seed(0)
    model = build_segmenter(spec)
    assert isinstance(model, RefinedSegmenter)
    torch.nn.init.normal_(model.fine.head.classify.weight)
    return model.eval()


def coarse_logits(height: int, width: int, windows: list[tuple[int, int]]) -> Tensor:
    """Land and water everywhere, one car pixel in each of some windows."""
    torch.manual_seed(1)
    logits = torch.randn(1, 4, height, width)
    logits[:, list(SMALL)] -= 20
    for row, col in windows:
        logits[0, 1, min(row * SIDE + 3, height - 1), min(col * SIDE + 2, width - 1)] = 30
    return logits


def expected(model: RefinedSegmenter, image: Tensor, coarse: Tensor) -> Tensor:
    """Window by window, pixel by pixel of context."""
    result, margin = coarse.clone(), model.settings.margin_px
    _, _, height, width = coarse.shape
    for top in range(0, height, SIDE):
        for left in range(0, width, SIDE):
            part = coarse[0, :, top : top + SIDE, left : left + SIDE]
            if not torch.isin(part.argmax(0), torch.tensor(SMALL)).any():
                continue
            crop = torch.zeros(1, 2, SIDE + 2 * margin, SIDE + 2 * margin)
            for y in range(crop.shape[2]):
                for x in range(crop.shape[3]):
                    row, col = top + y - margin, left + x - margin
                    if 0 <= row < height and 0 <= col < width:
                        crop[0, :, y, x] = image[0, :, row, col]
            fine = model.fine(crop)[0, :, margin : margin + SIDE, margin : margin + SIDE]
            fine = fine[:, : part.shape[1], : part.shape[2]]
            for k, index in enumerate(SMALL):
                number = k + 1 if model.settings.per_class else 1
                if model.settings.fusion == "published":
                    added = fine.softmax(0)[number]
                else:
                    added = model.scale[k] * (fine[number] - fine[0]) + model.bias[k]
                result[0, index, top : top + SIDE, left : left + SIDE] += added
    return result


@pytest.mark.parametrize("size", [(48, 64), (41, 37), (16, 16), (5, 70)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"per_class": False}, {"per_class": False, "fusion": "published", "margin_px": 0}],
)
def test_refinement_is_what_its_description_says(
    size: tuple[int, int], settings: dict[str, object]
) -> None:
    model, image = make(**settings), torch.randn(1, 2, *size)
    coarse = coarse_logits(*size, [(0, 0), (1, 2), (2, 1)])
    with torch.inference_mode():
        found, wanted = model.refine(image, coarse), expected(model, image, coarse)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.equal(found, coarse)


def test_without_small_objects_the_coarse_logits_stand() -> None:
    model, coarse = make(), coarse_logits(40, 40, [])
    assert model.refine(torch.randn(1, 2, 40, 40), coarse) is coarse


def test_rows_of_windows_with_context_give_the_same() -> None:
    model, image = make(), torch.randn(1, 2, 50, 40)
    coarse = coarse_logits(50, 40, [(0, 1), (1, 0), (2, 2), (3, 1)])
    with torch.inference_mode():
        whole = model.refine(image, coarse)
        parts = []
        for first, stop in ((0, 16), (16, 48), (48, 50)):
            above, below = min(4, first), min(4, 50 - stop)
            rows = image[:, :, first - above : stop + below]
            parts.append(model.refine(rows, coarse[:, :, first:stop], (above, below)))
    assert torch.allclose(torch.cat(parts, 2), whole, atol=1e-5)


def test_only_the_fine_network_and_the_fusion_train() -> None:
    model = make().train()
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"fine", "scale", "bias"}
    assert not model.encoder.training
    assert model.fine.training
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("fine.")}
    target = torch.randint(-1, 4, (2, 32, 32))
    losses = model.forward_train(torch.randn(2, 2, 32, 32), target)
    build_loss(LossSettings())(losses, target).backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert {name.split(".")[0] for name in trained} == {"fine", "scale", "bias"}
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_ignored_pixels_are_ignored_unless_faithful() -> None:
    labels = torch.tensor([[[0, 1], [3, IGNORE_INDEX]]])
    assert make()._fine_labels(labels).tolist() == [[[0, 1], [2, IGNORE_INDEX]]]
    assert make(per_class=False)._fine_labels(labels).tolist() == [[[0, 1], [1, IGNORE_INDEX]]]
    published = {"per_class": False, "fusion": "published", "margin_px": 0, "faithful": True}
    assert make(**published)._fine_labels(labels).tolist() == [[[0, 1], [1, 0]]]


def test_labels_that_are_all_ignored_cost_nothing() -> None:
    model = make().train()
    target = torch.full((2, 32, 32), IGNORE_INDEX)
    losses = model.forward_train(torch.randn(2, 2, 32, 32), target)
    assert all(loss.item() == 0 for loss in losses.values())


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"classes": ("car", "bus")}, ConfigError, "'bus' is no class; the classes are land"),
        ({"classes": NAMES}, ConfigError, "every class is small"),
        ({"faithful": True}, ValidationError, "faithful refinement has per_class: false"),
    ],
)
def test_what_cannot_be_refined(
    settings: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make(**settings)


def test_patches_smaller_than_a_window() -> None:
    with pytest.raises(InputError, match=r"patches of \(8, 8\) px are smaller"):
        make().forward_train(torch.randn(2, 2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64))


@pytest.mark.parametrize("side_stride", [(4, 4), (4, 2), (4, 1)])
def test_window_sums_count(side_stride: tuple[int, int]) -> None:
    side, stride = side_stride
    torch.manual_seed(0)
    mask = torch.rand(2, 11, 9) < 0.3
    found = window_sums(mask, side, stride)
    tops = range(0, 11 if stride == side else 11 - side + 1, stride)
    lefts = range(0, 9 if stride == side else 9 - side + 1, stride)
    wanted = [
        [[int(m[y : y + side, x : x + side].sum()) for x in lefts] for y in tops] for m in mask
    ]
    assert found.tolist() == wanted


def test_cut_windows_fill_what_lies_beyond() -> None:
    batch = torch.arange(16.0).reshape(1, 1, 4, 4)
    (window,) = cut_windows(batch, [Place(0, 2, 3, 2)], 2, margin=1, fill=-1)
    assert window[0].tolist() == [[6, 7, -1, -1], [10, 11, -1, -1], [14, 15, -1, -1], [-1] * 4]


def test_training_sees_objects_that_were_missed() -> None:
    found, true = torch.zeros(1, 64, 64, dtype=torch.bool), torch.zeros(1, 64, 64, dtype=torch.bool)
    found[0, 2:6, 2:6] = True
    true[0, 50:54, 50:54] = True
    torch.manual_seed(0)
    settings = {"side": 16, "stride": 8, "budget": 4}
    places = choose_windows(found, true, empty_share=0.25, **settings)
    holds = [true[0, p.top : p.top + 16, p.left : p.left + 16].any() for p in places]
    assert any(holds)
    blind = choose_windows(found, true, empty_share=0.0, faithful=True, **settings)
    assert not any(true[0, p.top : p.top + 16, p.left : p.left + 16].any() for p in blind)


def test_chosen_windows_are_no_near_duplicates() -> None:
    mask = torch.zeros(1, 96, 96, dtype=torch.bool)
    mask[0, 40:48, 40:48] = True
    places = choose_windows(mask, mask, side=32, stride=4, budget=9, empty_share=1 / 9)[:-1]
    for i, a in enumerate(places):
        for b in places[:i]:
            assert max(abs(a.top - b.top), abs(a.left - b.left)) >= 16


def test_the_published_budget() -> None:
    """169 windows of 128 px at stride 32 in 512 px; 128 of four images, or 16 if few have any."""
    mask = torch.zeros(4, 512, 512, dtype=torch.bool)
    assert window_sums(mask, 128, 32).shape == (4, 13, 13)
    settings = {"side": 128, "stride": 32, "budget": 32, "empty_share": 0.0, "faithful": True}
    mask[:, ::64, ::64] = True
    assert len(choose_windows(mask, mask, **settings)) == 128
    few = torch.zeros_like(mask)
    few[0, :3, :3] = True
    assert len(choose_windows(few, few, **settings)) == 16


def test_a_refiner_learns_to_undo_false_alarms() -> None:
    """The coarse network sees cars everywhere; the fine one finds the bright squares that are."""
    model = make(decoder="unet", decoder_options={"channels": (16,) * 5}, budget=4, stride_px=8)
    with torch.no_grad():
        model.head.classify.weight.zero_()
        model.head.classify.bias.copy_(torch.tensor([0.0, 1.0, -1.0, -1.0]))
    generator = torch.Generator().manual_seed(2)
    target = torch.zeros(2, 48, 48, dtype=torch.int64)
    for number, (top, left) in enumerate(torch.randint(0, 43, (12, 2), generator=generator)):
        target[number % 2, top : top + 5, left : left + 5] = 1
    image = torch.randn(2, 2, 48, 48, generator=generator) * 0.3 + 2 * (target == 1)[:, None]
    criterion = build_loss(LossSettings())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for step in range(40):
        torch.manual_seed(step)
        optimizer.zero_grad()
        criterion(model.forward_train(image, target), target).backward()
        optimizer.step()
    with torch.inference_mode():
        model.eval()
        assert (model.coarse(image).argmax(1) == 1).all()
        found = model(image).argmax(1) == 1
    true = target == 1
    assert (found & true).sum() / (found | true).sum() > 0.8

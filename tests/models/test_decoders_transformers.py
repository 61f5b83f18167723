import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
import torchvision
import transformers
from hypothesis import given
from hypothesis import strategies as st
from segmentation_models_pytorch.decoders import fpn, linknet, manet, unetplusplus
from torch import nn
from transformers.loss.loss_for_object_detection import dice_loss
from transformers.models.mask2former import modeling_mask2former as reference

from wholescene.errors import ConfigError, InputError, UnsupportedError
from wholescene.labels import IGNORE_INDEX
from wholescene.losses import CombinedLoss, CrossEntropy
from wholescene.losses.detail import detail_loss, detail_target
from wholescene.losses.mask_matching import (
    MaskLoss,
    MaskSet,
    assign,
    binary_losses,
    dice_losses,
    semantic_logits,
)
from wholescene.losses.point import labels_at, point_cross_entropy, sample_at, uncertain_points
from wholescene.models.decoders import DECODERS, FeatureLevels, build_decoder
from wholescene.models.decoders.mask2former import outside, sine_positions
from wholescene.models.decoders.queries import QueryLayer

QUERIES = {"channels": 16, "heads": 2, "hidden": 32}
SMALL: dict[str, tuple[str, dict, dict]] = {
    "segformer": ("test_resnet", {"channels": 16}, {}),
    "pointrend": ("test_resnet", {"channels": 16, "coarse_channels": 8}, {}),
    "mask2former": ("test_resnet", {**QUERIES, "queries": 10, "layers": 4}, {}),
    "segvit": ("test_vit3", QUERIES, {"out_indices": [4, 6, 8]}),
    "setr": ("test_vit", {"channels": 16}, {"out_indices": [5]}),
    "dpt": ("test_vit", {"channels": 16, "neck": (8, 8, 12, 16)}, {"out_indices": [1, 2, 3, 5]}),
    "stdc": ("test_resnet", {"context_channels": 16, "channels": 16}, {}),
    "smp-unetplusplus": ("test_convnext", {}, {}),
    "smp-manet": ("test_resnet", {}, {}),
    "smp-linknet": ("test_convnext", {}, {}),
    "smp-fpn": ("test_resnet", {}, {}),
    "smp-pan": ("test_resnet", {}, {}),
    "smp-deeplabv3": ("resnet26", {"channels": 16}, {"output_stride": 16}),
    "smp-deeplabv3plus": ("resnet26", {"channels": 16}, {"output_stride": 8}),
}
"""Encoder, options of the decoder, options of the encoder."""
SIDES = {name: 256 if name == "smp-pan" else 64 for name in SMALL}
OWN = [name for name in SMALL if not name.startswith("smp-")]
MIT_B0 = FeatureLevels(encoder="mit_b0", channels=(32, 64, 160, 256), reductions=(4, 8, 16, 32))
RESNET = FeatureLevels(
    encoder="resnet", channels=(64, 64, 128, 256, 512), reductions=(2, 4, 8, 16, 32)
)
VIT_B = FeatureLevels(encoder="vit", channels=(768,) * 4, reductions=(16,) * 4)


@pytest.fixture
def make(make_model):
    def build(name: str, **kwargs):
        encoder, options, encoder_options = SMALL[name]
        return make_model(
            encoder, name, decoder_options=options, encoder_options=encoder_options, **kwargs
        )

    return build


def maps(levels: FeatureLevels, height: int = 64, width: int = 96) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, c, height // r, width // r, generator=generator)
        for c, r in zip(levels.channels, levels.reductions, strict=True)
    ]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


STRIDES = {
    "segformer": 4,
    "pointrend": 1,
    "mask2former": 4,
    "segvit": 4,
    "setr": 1,
    "dpt": 2,
    "stdc": 8,
    "smp-unetplusplus": 1,
    "smp-manet": 1,
    "smp-linknet": 1,
    "smp-fpn": 4,
    "smp-pan": 4,
    "smp-deeplabv3": 16,
    "smp-deeplabv3plus": 4,
}


@pytest.mark.parametrize("name", SMALL)
def test_output_has_the_stated_channels_and_stride_and_any_size_is_read(make, name: str) -> None:
    model = make(name)
    side = SIDES[name]
    image = torch.randn(1, 4, side, side + 32)
    with torch.no_grad():
        out = model.decoder(model.encoder(image))
        assert model(image[..., :-9, :-5]).shape == (1, 3, side - 9, side + 27)
    stride = STRIDES[name]
    assert out.shape == (1, model.decoder.out_channels, side // stride, (side + 32) // stride)
    assert (model.decoder.out_channels == 3) == model.decoder.makes_logits


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(make, name: str) -> None:
    model = make(name).train()
    side = SIDES[name]
    target = torch.randint(-1, 3, (2, side, side))
    # Without any label too: a process that sees none must not stall the others.
    for labels in (target, torch.full_like(target, IGNORE_INDEX)):
        model.zero_grad()
        outputs = model.forward_train(torch.randn(2, 4, side, side), labels)
        loss = CombinedLoss({"cross_entropy": (CrossEntropy(), 1.0)})(outputs, labels)
        loss.backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_what_trains_more_is_weighed_and_named(make, name: str) -> None:
    model = make(name)
    side = SIDES[name]
    image, target = torch.randn(2, 4, side, side), torch.zeros(2, side, side).long()
    outputs = model.forward_train(image, target)
    assert set(outputs) - {"out"} <= set(model.decoder.auxiliary_weights)
    assert all(v.ndim == 0 or v.shape == (2, 3, side, side) for v in outputs.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch.export
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", SMALL)
def test_exports_with_concrete_sizes(make, name: str) -> None:
    model = make(name)
    image = torch.randn(1, 4, SIDES[name] - 6, SIDES[name] + 30)
    exported = torch.export.export(model, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(image), model(image))


STORED = {
    "segformer": [0.496639, 0.712039, 0.0],
    "pointrend": [0.146153, 0.375737, -0.039241],
    "mask2former": [-13.088466, 2.900996, -13.626109],
    "segvit": [-4.699224, 0.675657, -3.762703],
    "setr": [0.361624, 0.398065, 0.959062],
    "dpt": [0.348483, 0.398631, 0.972211],
    "stdc": [0.258824, 0.359692, 0.0],
}
"""Mean, standard deviation and one value of the logits."""


@pytest.mark.parametrize("name", OWN)
def test_stored_values_for_fixed_weights(make, name: str) -> None:
    model = make(name).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.decoder.parameters()):
            wave = torch.arange(parameter.numel()).double().mul(0.7).add(number).sin()
            parameter.copy_(wave.reshape(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
        levels = model.encoder.levels
        features = [
            torch.arange(c * 96 * 160 // r**2).double().mul(0.01).cos().reshape(1, c, 96 // r, -1)
            for c, r in zip(levels.channels, levels.reductions, strict=True)
        ]
        out = model.decoder(features)
    found = [out.mean().item(), out.std().item(), out[0, 1, 1, 2].item()]
    assert found == pytest.approx(STORED[name], rel=1e-4, abs=1e-6)


PARAMETERS = {
    # SegFormer: (32 + 64 + 160 + 256) * 256 weights, 4 * 256 biases, 1024 * 256 + 2 * 256.
    ("segformer", MIT_B0): 131_072 + 1_024 + 262_144 + 512,
    # SETR-PUP: norm, 768 -> 256 and thrice 256 -> 256 with 3 x 3 kernels and norms.
    ("setr", VIT_B): 2 * 768 + 9 * 256 * (768 + 3 * 256) + 4 * 512,
}


def test_parameters_are_as_many_as_published_layers_have() -> None:
    for (name, levels), expected in PARAMETERS.items():
        assert count(build_decoder(name, levels, {}, 6)) == expected, name


def test_segformer_is_the_head_of_transformers() -> None:
    config = transformers.SegformerConfig(
        hidden_sizes=list(MIT_B0.channels), decoder_hidden_size=256, num_labels=6
    )
    theirs = transformers.models.segformer.modeling_segformer.SegformerDecodeHead(config).eval()
    ours = build_decoder("segformer", MIT_B0, {}, 6).eval()
    state = {
        name: value
        for part, module in (("fuse.conv", theirs.linear_fuse), ("fuse.norm", theirs.batch_norm))
        for name, value in ((f"{part}.{k}", v) for k, v in module.state_dict().items())
    }
    for i, linear in enumerate(theirs.linear_projections):
        state[f"project.{i}.weight"] = linear.proj.weight[:, :, None, None]
        state[f"project.{i}.bias"] = linear.proj.bias
    ours.load_state_dict(state)
    assert count(ours) == count(theirs) - 256 * 6 - 6
    features = maps(MIT_B0)
    with torch.no_grad():
        expected = theirs(features)
        found = theirs.classifier(ours(features))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_setr_naive_is_two_linear_maps() -> None:
    ours = build_decoder("setr", VIT_B, {"form": "naive", "channels": 8}, 6).eval()
    feature = maps(VIT_B)[-1]
    with torch.no_grad():
        normed = F.layer_norm(feature.movedim(1, -1), (768,), eps=1e-6)
        weight = ours.convs[0].conv.weight[:, :, 0, 0]
        expected = (normed @ weight.T / (1 + 1e-5) ** 0.5).relu().movedim(-1, 1)
        torch.testing.assert_close(ours([feature]), expected, rtol=1e-4, atol=1e-5)


def test_dpt_reads_every_depth_at_its_scale() -> None:
    ours = build_decoder("dpt", VIT_B, {"channels": 8, "neck": (4, 4, 4, 4)}, 6).eval()
    sizes: list[tuple[int, ...]] = []
    for reduce in ours.reduce:
        reduce.register_forward_hook(lambda _, args, out: sizes.append(tuple(out.shape[-2:])))
    with torch.no_grad():
        assert ours(maps(VIT_B)).shape == (2, 8, 32, 48)
    assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_pointrend_predicts_everywhere_what_its_points_would_give(make) -> None:
    decoder = make("pointrend").decoder
    features = maps(FeatureLevels(encoder="r", **_levels_of(make("pointrend"))))
    fine, coarse = decoder._coarse(features)
    rows, cols = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    centres = torch.stack([(cols + 0.5) / 96, (rows + 0.5) / 64], -1).reshape(1, -1, 2)
    where = centres.expand(2, -1, -1)
    with torch.no_grad():
        at = (sample_at(part, where).transpose(1, 2) for part in (fine, coarse))
        expected = decoder.points(*at).transpose(1, 2).reshape(2, 3, 64, 96)
        torch.testing.assert_close(decoder(features), expected, rtol=1e-4, atol=1e-5)
        assert decoder.forward_train(features)[0].equal(coarse)


def _levels_of(model) -> dict:
    levels = model.encoder.levels
    return {"channels": levels.channels, "reductions": levels.reductions}


def test_points_are_mostly_where_logits_are_close() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 32, 64)
    points = uncertain_points(ramp, 1000)
    near = (points[..., 0] - 0.5).abs()
    assert (near[:, :750] < 0.2).all()  # the nearest quarter of all that were drawn
    assert near[:, 750:].max() > 0.4
    two = torch.cat([ramp, -ramp], 1)
    assert ((uncertain_points(two, 1000)[:, :750, 0] - 0.5).abs() < 0.2).all()


def test_sampling_at_pixel_centres_gives_pixels() -> None:
    grid = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[0.125, 0.5 / 3], [0.875, 2.5 / 3], [0.25, 0.5 / 3], [0.0, 0.0]]])
    torch.testing.assert_close(sample_at(grid, points), torch.tensor([[[0.0, 11, 0.5, 0]]]))
    assert labels_at(grid[0].long(), points).tolist() == [[0, 11, 1, 0]]


def test_point_losses_count_labelled_points_only() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    labels = torch.tensor([[0, 1, -1, 2, 0], [-1, -1, 2, 2, 1]])
    expected = F.cross_entropy(logits, labels, ignore_index=-1)
    torch.testing.assert_close(point_cross_entropy(logits, labels), expected)
    nothing = point_cross_entropy(logits, torch.full_like(labels, -1))
    nothing.backward()
    assert nothing.item() == 0
    assert float(logits.grad.abs().sum()) == 0


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 10_000))
def test_assignment_costs_as_little_as_scipys(rows: int, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.integers(-4, 5, (rows, rows + more)) + rng.random((rows, rows + more)) * (seed % 2)
    columns = assign(cost.astype(np.float64))
    assert len(set(columns.tolist())) == rows
    best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    assert cost[np.arange(rows), columns].sum() == pytest.approx(best)


def test_mask_terms_are_those_of_transformers_and_torchvision() -> None:
    logits, truth = torch.randn(4, 50), torch.randint(0, 2, (4, 50)).float()
    everywhere = torch.ones_like(truth)
    torch.testing.assert_close(
        dice_losses(logits, truth, everywhere).sum(), dice_loss(logits, truth, 1)
    )
    torch.testing.assert_close(
        dice_losses(logits, truth, everywhere).mean(), reference.dice_loss(logits, truth, 4)
    )
    torch.testing.assert_close(
        binary_losses(logits, truth).mean(1).mean(),
        reference.sigmoid_cross_entropy_loss(logits, truth, 4),
    )
    torch.testing.assert_close(
        binary_losses(logits, truth, focal=True),
        torchvision.ops.sigmoid_focal_loss(logits, truth),
    )


def test_matching_costs_are_those_of_transformers(monkeypatch) -> None:
    classes, masks = torch.randn(5, 4), torch.randn(5, 8, 8)
    target = torch.randint(0, 3, (8, 8))
    # Points on pixel centres, so that no interpolation differs.
    rows, cols = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    points = torch.stack([(cols + 0.5) / 8, (rows + 0.5) / 8], -1).reshape(1, 64, 2)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: points)
    labels = torch.tensor([0, 1, 2])
    found = MaskLoss(points=64)._costs(classes, masks, target, labels)
    truth = (target == labels[:, None, None]).float().flatten(1)
    expected = (
        5 * reference.pair_wise_sigmoid_cross_entropy_loss(masks.flatten(1), truth)
        + 5 * reference.pair_wise_dice_loss(masks.flatten(1), truth)
        - 2 * classes.softmax(-1)[:, labels]
    )
    torch.testing.assert_close(found, expected.T, rtol=1e-4, atol=1e-5)


def perfect(target: torch.Tensor, num_classes: int, order: list[int]) -> MaskSet:
    """Certain masks of each class, at the queries in ``order``."""
    num_queries = len(order)
    classes = torch.full((len(target), num_queries, num_classes + 1), -20.0)
    classes[..., -1] = 0
    masks = torch.full((len(target), num_queries, *target.shape[1:]), -20.0)
    for label in range(num_classes):
        where = target == label
        has = where.flatten(1).any(1)
        masks[:, order[label]] = torch.where(where, 20.0, -20.0)
        classes[has, order[label], label] = 20
        classes[has, order[label], -1] = -20
    return MaskSet(classes, masks)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0, 2, 1]])
def test_perfect_masks_cost_nothing_whatever_query_has_them(order: list[int]) -> None:
    torch.manual_seed(0)
    target = torch.zeros(2, 16, 16).long()
    target[0, :8], target[1, :, 8:] = 1, 2
    found = perfect(target, 3, order)
    # Points between two pixels of different class leave a little.
    assert float(MaskLoss()([found], target)) < 0.5
    assert semantic_logits(found).argmax(1).equal(target)
    swapped = found._replace(masks=found.masks.flip(0))
    assert float(MaskLoss()([swapped], target)) > 5


def test_fixed_matching_wants_class_c_at_query_c() -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 16, 16).long()
    target[:, :8] = 1
    loss = MaskLoss(matching="by class", mask_weight=20, dice_weight=1, focal=True)
    right, wrong = (perfect(target, 3, order) for order in ([0, 1, 2], [1, 0, 2]))
    assert float(loss([right], target)) < 0.5
    assert float(loss([wrong], target)) > 5


def test_ignored_pixels_do_not_move_masks() -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 16, 16).long()
    target[:, :, 8:] = IGNORE_INDEX
    masks = torch.randn(1, 4, 16, 16, requires_grad=True)
    MaskLoss()([MaskSet(torch.randn(1, 4, 4), masks)], target).backward()
    moved = masks.grad.abs().sum((0, 1))
    assert (moved[:, 9:] == 0).all()  # column 8 shares points with column 7
    assert (moved[:, :8] > 0).all()


def test_semantic_logits_by_hand() -> None:
    classes = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).log()
    masks = torch.tensor([[[[0.8]], [[0.5]]]]).logit()
    found = semantic_logits(MaskSet(classes, masks)).flatten()
    torch.testing.assert_close(found.exp(), torch.tensor([0.45, 0.25]), rtol=1e-4, atol=2e-6)


def test_query_layer_is_torchs_attention() -> None:
    torch.manual_seed(0)
    layer = QueryLayer(8, heads=2, hidden=12).eval()
    queries, position = torch.randn(2, 5, 8), torch.randn(5, 8)
    keys, values = torch.randn(2, 8, 3, 4), torch.randn(2, 8, 3, 4)
    forbidden = torch.rand(2, 5, 3, 4) < 0.5
    forbidden[..., 0, 0] = False

    def torchs(part: nn.Module) -> nn.MultiheadAttention:
        made = nn.MultiheadAttention(8, 2, batch_first=True)
        projections = [getattr(part, name) for name in ("ask", "keys", "values")]
        made.in_proj_weight = nn.Parameter(torch.cat([p.weight.reshape(8, 8) for p in projections]))
        made.in_proj_bias = nn.Parameter(torch.cat([p.bias for p in projections]))
        made.out_proj.load_state_dict(part.merge.state_dict())
        return made.eval()

    with torch.no_grad():
        flat = [part.flatten(2).transpose(1, 2) for part in (keys, values)]
        mask = forbidden.flatten(2).repeat_interleave(2, 0)
        x = queries + torchs(layer.cross)(queries + position, *flat, attn_mask=mask)[0]
        x = layer.norms[0](x)
        x = layer.norms[1](x + torchs(layer.among)(x + position, x + position, x)[0])
        x = layer.norms[2](x + layer.mlp(x))
        found, _ = layer(queries, position, keys, values, forbidden)
    torch.testing.assert_close(found, x)


def test_positions_are_those_of_mask2former() -> None:
    theirs = reference.Mask2FormerSinePositionEmbedding(num_position_features=8, normalize=True)
    expected = theirs((1, 16, 5, 7), torch.device("cpu"), torch.float32)
    torch.testing.assert_close(sine_positions(torch.zeros(1, 16, 5, 7)), expected)


def test_queries_look_inside_their_mask_and_everywhere_if_it_is_empty() -> None:
    masks = torch.tensor([[[[1.0, -1.0]], [[-1.0, -2.0]]]])
    assert outside(masks, (1, 2)).tolist() == [[[[False, True]], [[False, False]]]]


def test_changes_of_class_by_hand() -> None:
    target = torch.zeros(1, 1, 16).long()
    target[..., 8:12] = 1
    target[..., 14:] = IGNORE_INDEX
    # Strides 1 and 2 see a change one and two pixels wide, stride 4 whole cells.
    near = detail_target(target)[0, 0].tolist()
    assert near[:4] == [0] * 4
    assert near[7:9] == near[11:13] == [1, 1]
    assert detail_target(torch.zeros(1, 8, 8).long()).sum() == 0
    half_ignored = torch.zeros(1, 8, 8).long()
    half_ignored[:, 4:] = IGNORE_INDEX
    assert detail_target(half_ignored).sum() == 0
    assert detail_target(half_ignored, faithful=True)[:, 1:-1, 1:-1].sum() > 0


def test_detail_loss_is_small_where_changes_are_found() -> None:
    target = torch.zeros(1, 32, 32).long()
    target[:, 16:] = 1
    truth = detail_target(target).unsqueeze(1)
    right = detail_loss(40 * truth - 20, target)
    wrong = detail_loss(20 - 40 * truth, target)
    assert float(right) < 1e-3
    assert float(wrong) > 10
    assert float(detail_loss(truth, torch.full_like(target, IGNORE_INDEX))) == 0


SMP = {
    "smp-unetplusplus": (unetplusplus, "UnetPlusPlusDecoder"),
    "smp-manet": (manet, "MAnetDecoder"),
    "smp-linknet": (linknet, "LinknetDecoder"),
    "smp-fpn": (fpn, "FPNDecoder"),
}


@pytest.mark.parametrize("name", SMP)
def test_smp_decoders_compute_what_smp_computes(name: str) -> None:
    ours = build_decoder(name, RESNET, {}, 3).eval()
    module, theirs = SMP[name]
    assert type(ours.net).__name__ == theirs
    assert type(ours.net).__module__.startswith(module.__name__)
    features = maps(RESNET)
    with torch.no_grad():
        expected = ours.net([torch.zeros(2, 3, 64, 96), *features])
        torch.testing.assert_close(ours(features), expected, rtol=0, atol=0)


def patches() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 3, (2, 4, 4), generator=generator)
    target = cells.repeat_interleave(16, 1).repeat_interleave(16, 2)
    colours = torch.randn(3, 4, generator=generator)
    noise = torch.randn(2, 4, 64, 64, generator=generator)
    return colours[target].permute(0, 3, 1, 2) + 0.3 * noise, target


@pytest.mark.parametrize("name", ["mask2former", "segvit", "setr", "dpt"])
def test_the_loss_halves_within_few_steps(make, name: str) -> None:
    model = make(name).train()
    loss = CombinedLoss({"cross_entropy": (CrossEntropy(), 1.0)})
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    image, target = patches()
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(model.forward_train(image, target), target)
        value.backward()
        optimiser.step()
        values.append(value.item())
        if values[-1] < values[0] / 2:
            break
    assert values[-1] < values[0] / 2


def test_what_does_not_fit_is_named() -> None:
    for name in ("segformer", "pointrend", "mask2former"):
        with pytest.raises(UnsupportedError, match=r"two maps of different scale.*pyramid = true"):
            build_decoder(name, VIT_B, {}, 3)
    with pytest.raises(UnsupportedError, match=r"STDC needs at least two maps at stride 8"):
        build_decoder("stdc", FeatureLevels(encoder="e", channels=(4, 4), reductions=(4, 8)), {}, 3)
    with pytest.raises(UnsupportedError, match=r"DPT reads four maps.*out_indices = \[2, 5"):
        build_decoder("dpt", RESNET, {}, 3)
    with pytest.raises(UnsupportedError, match=r"SmpDeepLabV3Plus of smp needs \(4, 8, 16, 16\)"):
        build_decoder("smp-deeplabv3plus", RESNET, {}, 3)
    with pytest.raises(ConfigError, match=r"2 queries cannot match the 3 classes"):
        build_decoder("mask2former", RESNET, {"queries": 2}, 3)
    with pytest.raises(ConfigError, match=r"heads = 3 does not divide channels = 256"):
        build_decoder("segvit", VIT_B, {"heads": 3}, 3)
    with pytest.raises(InputError, match=r"PAN needs at least 8 x 8 pixels.*raise data.patch_px"):
        build_decoder("smp-pan", RESNET, {}, 3).eval()(maps(RESNET))
    with pytest.raises(InputError, match=r"STDC .* raise data.batch_size"):
        build_decoder("stdc", RESNET, {}, 3)([part[:1] for part in maps(RESNET)])


def test_all_of_them_are_in_the_table() -> None:
    assert set(SMALL) <= set(DECODERS)

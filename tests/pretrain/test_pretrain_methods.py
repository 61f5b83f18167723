"""Every pretext task: it trains what it should, and its own promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from wholescene.errors import ConfigError
from wholescene.models import Architecture, ClassSpec, ModelSpec, Segmenter, build_segmenter
from wholescene.pretrain import METHODS, Method, View, ViewMaker, ViewSettings, build_method
from wholescene.pretrain.geometry import rects_of
from wholescene.pretrain.methods.glcnet import style
from wholescene.pretrain.methods.inpainting import draw_holes
from wholescene.pretrain.methods.jigsaw import far_permutations, shuffled_tiles
from wholescene.pretrain.momentum import follow, momentum_at
from wholescene.pretrain.queue import KeyQueue
from wholescene.raster import BandSpec, SourceSpec

BANDS, SIDE, BATCH = 4, 64, 4

OPTIONS: dict[str, dict[str, Any]] = {
    "glcnet": {"region_px": 16},
    "moco": {"queue": 8},
    "mocobyol": {"queue": 16, "hidden": 32, "features": 16},
    "densecl": {"queue": 8},
    "swav": {"prototypes": 6, "small_views": 2, "small_px": 32, "freeze_steps": 2},
    "inpainting": {"holes": 2},
    "jigsaw": {"orders": 5},
    "mae": {"width": 24, "depth": 1, "heads": 2},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network(encoder: str = "test_byobnet", decoder: str = "deeplabv3plus") -> Segmenter:
    options = {"channels": 16} if decoder == "deeplabv3plus" else {}
    bands = tuple(BandSpec(name=f"b{i}") for i in range(BANDS))
    spec = ModelSpec(
        architecture=Architecture(encoder=encoder, decoder=decoder, decoder_options=options),
        sources=(SourceSpec(bands=bands),),
        mean=(0.0,) * BANDS,
        std=(1.0,) * BANDS,
        classes=(ClassSpec(id=0, name="none", color=(0, 0, 0)),),
    )
    return build_segmenter(spec)


def build(name: str, **options: Any) -> Method:
    inner = network("test_vit", "fcn") if name == "mae" else network()
    side = 96 if name == "jigsaw" else SIDE
    return build_method(name, inner, {**OPTIONS.get(name, {}), **options}, view_px=side)


def views_for(method: Method, name: str, seed: int = 0) -> tuple[list[View], torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    windows = torch.randn(BATCH, BANDS, 80, 80, generator=generator)
    settings = ViewSettings(view_px=96 if name == "jigsaw" else SIDE)
    maker = ViewMaker(settings, mean=(100.0,) * BANDS, std=(50.0,) * BANDS)
    views = maker(windows, generator, count=method.num_views, small=method.small_views)
    return views, generator


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_step_reaches_every_weight_that_is_trained(name: str) -> None:
    method = build(name).train()
    method.before_step(5, 10)
    views, generator = views_for(method, name)
    loss = method(views, generator)
    assert loss.ndim == 0 and loss.isfinite()
    loss.backward()
    lacking = [
        key
        for key, weight in method.named_parameters()
        if weight.requires_grad and weight.grad is None
    ]
    # Transformers keep no norm in timm's extractor; nothing else may be left out.
    assert lacking == []
    frozen = [key for key, weight in method.named_parameters() if not weight.requires_grad]
    assert all(weight.grad is None for weight in method.parameters() if not weight.requires_grad)
    assert any(key.startswith("network.head") for key in frozen)
    decoder = any(key.startswith("network.decoder") for key in frozen)
    assert decoder == (method.trained == "encoder")


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_few_steps_lower_the_loss(name: str) -> None:
    method = build(name).train()
    method.before_step(5, 10)
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    state = {key: value.clone() for key, value in method.state_dict().items()}

    def held_out() -> float:
        """Loss on one batch with the queues and targets of the beginning."""
        now = {key: value.clone() for key, value in method.state_dict().items()}
        kept = {k: v for k, v in state.items() if "queue" in k or "slow" in k}
        method.load_state_dict({**now, **kept})
        torch.manual_seed(0)
        views, generator = views_for(method, name)
        with torch.no_grad():
            value = float(method(views, generator))
        method.load_state_dict(now)
        return value

    before = held_out()
    for step in range(6):
        torch.manual_seed(0)
        views, generator = views_for(method, name)
        optimizer.zero_grad()
        method(views, generator).backward()
        optimizer.step()
        method.after_step(step, 6)
    assert held_out() < before


@pytest.mark.parametrize("name", sorted(METHODS))
def test_features_and_embeddings_are_rows(name: str) -> None:
    method = build(name).eval()
    image = torch.randn(3, BANDS, SIDE, SIDE)
    with torch.no_grad():
        for rows in (method.features(image), method.embed(image)):
            assert rows.ndim == 2 and len(rows) == 3
            assert not torch.allclose(rows[0], rows[1])


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="no method 'glc'"):
        build_method("glc", network(), {}, view_px=64)
    with pytest.raises(ConfigError, match="plain vision transformer"):
        build_method("mae", network(), {}, view_px=64)
    with pytest.raises(ConfigError, match="no multiple of the stride"):
        build_method("swav", network(), {"small_px": 40}, view_px=64)
    with pytest.raises(ConfigError, match="larger than views"):
        build_method("glcnet", network(), {"region_px": 65}, view_px=64)
    with pytest.raises(ConfigError, match="variance over places"):
        build_method("glcnet", network(), {"region_px": 8}, view_px=32)
    with pytest.raises(ConfigError, match="room for 3 tiles"):
        build_method("jigsaw", network(), {}, view_px=64)


def test_style_is_mean_and_variance() -> None:
    features = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert style(features).tolist() == [[4.0, pytest.approx(20 / 3)]]


@pytest.mark.parametrize("terms", ["both", "global", "local"])
@pytest.mark.parametrize("decoder", ["deeplabv3plus", "fcn"])
def test_glcnet_switches(terms: str, decoder: str) -> None:
    options: dict[str, Any] = {"terms": terms, "region_px": 16, "style": terms != "both"}
    method = build_method("glcnet", network(decoder=decoder), options, view_px=SIDE).train()
    views, generator = views_for(method, "glcnet")
    method(views, generator).backward()
    lacking = [k for k, w in method.named_parameters() if w.requires_grad and w.grad is None]
    assert lacking == []


def test_glcnet_loss_is_the_weighed_sum_of_its_terms() -> None:
    losses = {}
    for terms in ("both", "global", "local"):
        torch.manual_seed(0)
        options = {"terms": terms, "region_px": 16}
        method = build_method("glcnet", network(), options, view_px=SIDE).eval()
        if terms == "both":
            weights = method.state_dict()
        method.load_state_dict({k: weights[k] for k in method.state_dict()})
        views, generator = views_for(method, "glcnet")
        losses[terms] = method(views, generator).item()
    assert losses["both"] == pytest.approx((losses["global"] + losses["local"]) / 2, rel=1e-5)


def test_published_glcnet_is_a_setting() -> None:
    options = {"region_px": 16, "footprint": "view", "rival_regions": True}
    method = build_method("glcnet", network(), options, view_px=SIDE).eval()
    maker = ViewMaker(
        ViewSettings(faithful=True, view_px=SIDE), mean=(127.5,) * BANDS, std=(255 / 3.2,) * BANDS
    )
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(BATCH, BANDS, 80, 80) * 3.2 - 1.6
    views = maker(windows, generator)
    assert method(views, generator).isfinite()
    # The first view is cut and nothing else: upright, its values those of the window.
    assert (rects_of(views[0].maps).half == views[0].maps[..., :2].diagonal(dim1=1, dim2=2)).all()
    assert views[1].image.abs().max() <= 1.6 + 1e-4


@pytest.mark.parametrize(("name", "queues"), [("moco", 1), ("densecl", 2), ("mocobyol", 1)])
def test_queues_grow_by_one_key_an_image(name: str, queues: int) -> None:
    method = build(name).train()
    views, generator = views_for(method, name)
    method(views, generator)
    found = [part for part in method.modules() if isinstance(part, KeyQueue)]
    assert len(found) == queues
    per_step = 2 * BATCH if name == "mocobyol" else BATCH  # both views are kept there
    assert all(int(queue.added) == per_step for queue in found)


def test_a_queue_overwrites_the_oldest_keys() -> None:
    queue = KeyQueue(4, 2)
    for number in range(3):
        queue.push(torch.tensor([[1.0, number], [2.0, 2.0 * number]]))
    # Keys 0..5 by twos; 4 and 5 lie where 0 and 1 were.
    expected = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0]] * 2 + [[1.0, 1.0]] * 2))
    torch.testing.assert_close(queue.keys, expected)
    with pytest.raises(ConfigError, match="holds less than the 5 keys"):
        queue.push(torch.randn(5, 2))


def test_keys_come_from_the_slow_network() -> None:
    method = build("densecl").train()
    with torch.no_grad():
        for weight in method.slow_encoder.parameters():
            weight.zero_()
    views, generator = views_for(method, "densecl")
    method(views, generator)
    bias = method.slow_dense_head(torch.zeros(1, method.encoder_channels, 1, 1)).flatten()
    added = method.dense_queue.keys[:BATCH]
    torch.testing.assert_close(
        added, torch.nn.functional.normalize(bias, dim=0).expand(BATCH, -1), atol=1e-4, rtol=1e-4
    )


def test_momentum_anchors_and_following() -> None:
    assert momentum_at(0.0, 0.99, "cosine") == pytest.approx(0.99)
    assert momentum_at(0.5, 0.99, "cosine") == pytest.approx(0.995)
    assert momentum_at(1.0, 0.99, "cosine") == 1.0
    assert momentum_at(0.7, 0.999, "constant") == 0.999
    slow, fast = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(slow.weight, 1.0)
    torch.nn.init.constant_(fast.weight, 2.0)
    follow(slow, fast, 0.9)
    assert slow.weight.item() == pytest.approx(1.1)


def test_prototypes_stay_while_they_are_frozen() -> None:
    method = build("swav").train()
    views, generator = views_for(method, "swav")
    assert [view.image.shape[-1] for view in views] == [64, 64, 32, 32]
    for step, is_frozen in ((0, True), (1, True), (2, False)):
        method.before_step(step, 10)
        method.zero_grad()
        method(views, generator).backward()
        assert (method.prototypes.layer.weight.grad is None) == is_frozen


def test_holes_are_as_large_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    hole = draw_holes(torch.zeros(50, 3, 20, 30), 1, side=4, generator=generator)
    assert hole.shape == (50, 1, 20, 30)
    assert (hole.sum((1, 2, 3)) == 16).all()


def test_orders_are_permutations_far_apart() -> None:
    orders = far_permutations(20, 9)
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(20, 9))
    apart = (orders[:, None] != orders[None]).sum(2) + 9 * torch.eye(20)
    assert apart.min() >= 7
    assert torch.equal(orders, far_permutations(20, 9))


def test_tiles_come_in_the_order_that_is_asked() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3).repeat_interleave(8, 2).repeat_interleave(8, 3)
    order = torch.tensor([[8, 0, 1, 2, 3, 4, 5, 6, 7]])
    generator = torch.Generator().manual_seed(0)
    mosaic = shuffled_tiles(image, order, tile_px=4, share=0.7, generator=generator)
    assert mosaic[0, 0, ::4, ::4].flatten().tolist() == order[0].tolist()


def test_mae_paints_what_is_hidden_and_reads_what_is_not() -> None:
    method = build("mae").eval()
    views, _ = views_for(method, "mae")
    image = views[0].image.clone().requires_grad_()
    order = torch.arange(16).expand(BATCH, 16)
    method._read(image, order[:, :4]).sum().backward()
    grad: Tensor = image.grad.reshape(BATCH, BANDS, 4, 16, 4, 16).abs().sum((1, 3, 5))
    assert (grad[:, 0] > 0).all() and (grad[:, 1:] == 0).all()


def test_simsiam_is_between_minus_one_and_one() -> None:
    method = build("simsiam").train()
    views, generator = views_for(method, "simsiam")
    same = [views[0], views[0]]
    assert -1 <= method(views, generator).item() <= 1
    assert math.isfinite(method(same, generator).item())


@pytest.mark.parametrize("name", ["glcnet", "swav", "pixpro", "mae"])
def test_bfloat16_gives_nearly_the_same_loss(name: str) -> None:
    method = build(name).eval()
    losses = []
    for enabled in (False, True):
        views, generator = views_for(method, name)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(method(views, generator))
    losses[1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05, abs=0.05)

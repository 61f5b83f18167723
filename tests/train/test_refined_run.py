"""A refined run: the coarse network comes from its run, the fine encoder from weights or chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_dataset import MakeConfig

from wholescene.config import RunConfig, load_config
from wholescene.datasets import Dataset
from wholescene.errors import ConfigError, ModelFileError
from wholescene.models import RefinedSegmenter, load_model
from wholescene.train import Notice, TrainMessage, fit
from wholescene.train.setup import prepare_run
from wholescene.train.start import initial_model

FINE: dict[str, Any] = {
    "classes": ("water",),
    "window_px": 16,
    "margin_px": 4,
    "encoder": "test_resnet",
    "decoder": "fcn",
    "stride_px": 8,
    "budget": 2,
}


@pytest.fixture(scope="module")
def coarse(
    make_config: MakeConfig, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("coarse") / "run"
    fit(make_config(train={"steps": 2}), tiny, out)
    return out


@pytest.fixture
def refined(make_config: MakeConfig, coarse: Path) -> Any:
    def make(train: dict[str, Any] | None = None, **fine: Any) -> RunConfig:
        begin = {"init_from": coarse, "init_part": "all", "steps": 2}
        return make_config(
            model={"refine": {**FINE, **fine}}, train=begin if train is None else train
        )

    return make


def start(config: RunConfig, dataset: Dataset) -> tuple[RefinedSegmenter, str]:
    model, origin = initial_model(prepare_run(config, dataset).spec, config.model, config.train)
    assert isinstance(model, RefinedSegmenter)
    return model, origin


def encoder(model: Any) -> dict[str, torch.Tensor]:
    state = model.encoder.net.state_dict().items()
    return {name: value for name, value in state if not name.endswith("num_batches_tracked")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_fine_encoder_takes_weights(
    refined: Any, tiny: Dataset, coarse: Path, tmp_path: Path
) -> None:
    trained = load_model(coarse)
    chance, text = start(refined(), tiny)
    assert not same(encoder(chance.fine), encoder(trained))
    assert "fine network" not in text
    torch.save(trained.encoder.net.state_dict(), tmp_path / "encoder.pth")
    for weights in (coarse, coarse / "model", tmp_path / "encoder.pth"):
        model, text = start(refined(weights=str(weights), weights_bands=("red", "nir")), tiny)
        assert same(encoder(model.fine), encoder(trained))
        assert same(encoder(model), encoder(trained))
        assert text.endswith(f"; the fine network: encoder weights from {weights}")
        assert torch.equal(
            model.fine.head.state_dict()["classify.weight"],
            chance.fine.head.state_dict()["classify.weight"],
        )


def test_bands_of_the_weights_are_placed(
    refined: Any, tiny: Dataset, coarse: Path, tmp_path: Path
) -> None:
    """Bands in another order: the kernels follow the names."""
    state = load_model(coarse).encoder.net.state_dict()
    torch.save(state, tmp_path / "w.pth")
    weights = {"weights": str(tmp_path / "w.pth"), "weights_bands": ("nir", "red")}
    model, _ = start(refined(**weights), tiny)
    first = "conv1.0.weight"
    torch.testing.assert_close(encoder(model.fine)[first], state[first].flip(1))


def test_pretrained_fetches_for_the_fine_network_alone(
    refined: Any, tiny: Dataset, coarse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    monkeypatch.setattr("wholescene.models.build.load_timm_weights", fetched.append)
    model, text = start(refined(pretrained=True), tiny)
    assert fetched == [model.fine]
    assert text.endswith("; the fine network: timm's pretrained encoder")


def test_a_finished_run_needs_no_weights_any_more(
    refined: Any, tiny: Dataset, coarse: Path, tmp_path: Path
) -> None:
    trained = load_model(coarse)
    torch.save(trained.encoder.net.state_dict(), tmp_path / "w.pth")
    config = refined(weights=str(tmp_path / "w.pth"))
    notices: list[TrainMessage] = []
    run = fit(config, tiny, tmp_path / "run", progress=notices.append)
    assert any("fine network: encoder" in m.text for m in notices if isinstance(m, Notice))
    (tmp_path / "w.pth").unlink()
    model = load_model(run.model)
    assert isinstance(model, RefinedSegmenter)
    assert same(encoder(model), encoder(trained))
    assert not same(encoder(model.fine), encoder(trained))
    assert load_config(run.out / "config.yaml") == config


def test_weights_that_do_not_fit_are_named(refined: Any, tiny: Dataset, tmp_path: Path) -> None:
    torch.save({"conv1.0.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"fine network.*model\.refine.*fills 0 of"):
        start(refined(weights=str(tmp_path / "w.pth")), tiny)


def test_two_origins_of_a_fine_network(
    refined: Any, tiny: Dataset, coarse: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="both start the fine network's encoder"):
        refined(pretrained=True, weights="w.pth")
    before = fit(refined(), tiny, tmp_path / "run")
    begin = {"init_from": before.out, "init_part": "all", "steps": 2}
    model, _ = start(refined(begin), tiny)
    earlier = load_model(before.model)
    assert isinstance(earlier, RefinedSegmenter)
    assert same(encoder(model.fine), encoder(earlier.fine))
    with pytest.raises(ConfigError, match="holds a fine network"):
        start(refined(begin, weights=str(coarse)), tiny)


@pytest.mark.parametrize("part", [None, "encoder"])
def test_what_is_refined_was_trained_before(
    refined: Any, tiny: Dataset, coarse: Path, part: str | None, tmp_path: Path
) -> None:
    begin = {} if part is None else {"init_from": coarse, "init_part": part}
    with pytest.raises(ConfigError, match=r"model\.refine corrects.*train\.init_from"):
        fit(refined({"steps": 1, **begin}), tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()

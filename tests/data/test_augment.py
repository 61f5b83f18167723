from typing import Literal

import numpy as np
import pytest
import torch

from wholescene.data.augment import Augment, SpectralChange, Symmetry
from wholescene.errors import InputError

ALL_COINS = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]


def batch(num: int = 4, bands: int = 3, side: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(num, bands, side, side, generator=generator)
    label = torch.randint(-1, 3, (num, side, side), generator=generator)
    valid = torch.rand(num, side, side, generator=generator) > 0.2
    return image * valid[:, None], label, valid


def augment_all(
    augment: Augment, image: torch.Tensor, label: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Augment samples 0, 1, 2 ... and stack them."""
    parts = zip(image.clone(), label, valid, strict=True)
    changed = [augment(*part, index=number) for number, part in enumerate(parts)]
    return tuple(torch.stack(part) for part in zip(*changed, strict=True))


def references(square: np.ndarray) -> dict[str, bytes]:
    """The eight symmetries as numpy makes them."""
    turned = {f"turn {k}": np.rot90(square, k) for k in range(4)}
    mirrored = {f"mirrored turn {k}": np.rot90(square[:, ::-1], k) for k in range(4)}
    return {name: np.ascontiguousarray(x).tobytes() for name, x in (turned | mirrored).items()}


@pytest.mark.parametrize(
    ("flips", "turns", "names"),
    [
        (False, False, ["turn 0"] * 8),
        (True, False, ["turn 0", "turn 2", "mirrored turn 0", "mirrored turn 2"] * 2),
        ("left-right", False, ["turn 0", "mirrored turn 0"] * 4),
        ("left-right", True, [f"{m}turn {k}" for k in range(4) for m in ("", "mirrored ")]),
        (False, True, [f"turn {k}" for k in range(4)] * 2),
        (True, True, [f"{m}turn {k}" for k in range(4) for m in ("", "mirrored ")]),
    ],
)
def test_the_coins_give_each_allowed_symmetry_equally_often(
    flips: bool | Literal["left-right"], turns: bool, names: list[str]
) -> None:
    square = np.arange(16).reshape(4, 4)
    name_of = {value: name for name, value in references(square).items()}
    found = [
        name_of[
            Symmetry.from_coins(c, flips=flips, turns=turns)(torch.from_numpy(square))
            .numpy()
            .tobytes()
        ]
        for c in ALL_COINS
    ]
    assert sorted(found) == sorted(names)


def test_image_label_and_valid_move_together() -> None:
    side = 8
    place = torch.arange(side * side).view(1, side, side)
    num = 64
    image = place.float().expand(num, 2, side, side).clone()
    label = place.expand(num, side, side).clone()
    valid = label % 3 != 0
    image, label, valid = augment_all(Augment(0, [0.0, 0.0]), image, label, valid)
    torch.testing.assert_close(image[:, 0], label.float(), rtol=0, atol=0)
    torch.testing.assert_close(image[:, 1], label.float(), rtol=0, atol=0)
    assert torch.equal(valid, label % 3 != 0)
    assert len({tuple(part.flatten().tolist()) for part in label}) == 8


def test_what_happens_to_a_sample_depends_on_seed_and_number() -> None:
    change = SpectralChange(0.2, 0.1, 0.3, 0.2, 0.1, 0.3)
    image, label, valid = (part[0] for part in batch())

    def change_it(seed: int, index: int) -> torch.Tensor:
        augment = Augment(seed, [1.0, 2.0, 3.0], spectral=change)
        augment(image.clone(), label, valid, index=99)  # what came before does not matter
        return augment(image.clone(), label, valid, index=index)[0]

    assert torch.equal(change_it(7, 5), change_it(7, 5))
    assert not torch.equal(change_it(7, 5), change_it(7, 6))
    assert not torch.equal(change_it(7, 5), change_it(8, 5))


@pytest.mark.parametrize(
    "change",
    [
        {"gain": 0.3},
        {"band_gain": 0.3},
        {"brightness": 0.5},
        {"contrast": 0.3},
        {"noise": 0.5},
        {"channel_dropout": 0.5},
    ],
)
def test_each_change_of_values_acts_and_leaves_invalid_pixels_at_zero(
    change: dict[str, float],
) -> None:
    image, label, valid = batch()
    augment = Augment(
        1, [4.0, 5.0, 6.0], flips=False, turns=False, spectral=SpectralChange(**change)
    )
    changed, same_label, same_valid = augment_all(augment, image, label, valid)
    assert torch.equal(same_label, label)
    assert torch.equal(same_valid, valid)
    assert not torch.equal(changed, image)
    assert (changed.movedim(1, -1)[~valid] == 0).all()


def test_a_gain_acts_on_physical_values() -> None:
    mean, std = np.array([100.0, 400.0]), np.array([20.0, 50.0])
    generator = np.random.default_rng(0)
    physical = generator.uniform(0, 500, (1, 2, 5, 5))
    normalised = (physical - mean[:, None, None]) / std[:, None, None]
    augment = Augment(3, mean / std, flips=False, turns=False, spectral=SpectralChange(gain=0.4))
    image = torch.from_numpy(normalised.astype(np.float32))
    valid = torch.ones(1, 5, 5, dtype=torch.bool)
    label = torch.zeros(1, 5, 5, dtype=torch.int64)
    changed = augment(image[0], label[0], valid[0], index=11)[0].numpy()
    ratio = (changed * std[:, None, None] + mean[:, None, None]) / physical
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-4)
    assert 0.6 <= ratio.flat[0] <= 1.4
    assert abs(ratio.flat[0] - 1) > 0.01


def test_noise_has_at_most_the_given_strength() -> None:
    augment = Augment(0, [0.0], flips=False, turns=False, spectral=SpectralChange(noise=0.5))
    image, label = torch.zeros(20, 1, 64, 64), torch.zeros(20, 64, 64, dtype=torch.int64)
    valid = torch.ones(20, 64, 64, dtype=torch.bool)
    noisy = augment_all(augment, image, label, valid)[0]
    strengths = noisy.flatten(1).std(1)
    assert strengths.max() < 0.52
    assert strengths.max() > 0.3
    assert strengths.min() < 0.2


def test_one_band_always_stays() -> None:
    augment = Augment(
        0, [0.0] * 3, flips=False, turns=False, spectral=SpectralChange(channel_dropout=0.9)
    )
    image = torch.ones(200, 3, 2, 2)
    label = torch.zeros(200, 2, 2, dtype=torch.int64)
    kept = augment_all(augment, image, label, label == 0)[0][:, :, 0, 0]
    assert set(kept.flatten().tolist()) == {0.0, 1.0}
    assert kept.sum(1).min() == 1
    assert kept.mean() < 0.5


def test_switching_one_change_off_leaves_the_draws_of_the_others() -> None:
    image, label, valid = batch()
    both = Augment(0, [0.0] * 3, spectral=SpectralChange(contrast=0.2))
    geometry = Augment(0, [0.0] * 3)
    moved = augment_all(geometry, image, label, valid)
    changed = augment_all(both, image, label, valid)
    assert torch.equal(moved[1], changed[1])
    ratio = (changed[0] / moved[0]).nan_to_num(1.0)
    assert (ratio.flatten(1).amax(1) < 1.2001).all()


def test_other_bands_than_the_statistics_are_refused() -> None:
    image, label, valid = (part[0] for part in batch(bands=2))
    with pytest.raises(InputError, match="image has 2 bands, but the statistics are of 3"):
        Augment(0, [0.0] * 3)(image, label, valid, index=0)
    with pytest.raises(InputError, match=r"\(2, 36\), not \(bands, height, width\)"):
        Augment(0, [0.0] * 2)(image.flatten(1), label, valid, index=0)

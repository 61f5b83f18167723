import pytest
from pydantic import ValidationError

from wholescene.data import ColorDistortion, DataSettings


def test_every_field_says_what_it_does() -> None:
    fields = {**DataSettings.model_fields, **ColorDistortion.model_fields}
    assert not [name for name, field in fields.items() if not field.description]


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="flip"):
        DataSettings(dataset="d", flip=True)


@pytest.mark.parametrize("scales", [(2.0, 1.0), (0.01, 1.0), (1.0, 11.0), (1.0, float("nan"))])
def test_scale_jitter_must_be_smallest_and_largest(scales: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="smallest <= largest"):
        DataSettings(dataset="d", scale_jitter=scales)


def test_scale_is_chosen_one_way() -> None:
    with pytest.raises(ValidationError, match=r"zooms \[0\.5, 2\.0\] and scale_jitter .* keep one"):
        DataSettings(dataset="d", zooms=(0.5, 2.0), scale_jitter=(0.5, 2.0))


@pytest.mark.parametrize("zooms", [(), (0.0,), (11.0,)])
def test_zooms_are_positive_and_at_least_one(zooms: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="zooms"):
        DataSettings(dataset="d", zooms=zooms)

import pytest
from pydantic import ValidationError

from wholescene.data import DataSettings


def test_every_field_says_what_it_does() -> None:
    missing = [name for name, field in DataSettings.model_fields.items() if not field.description]
    assert not missing


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="flip"):
        DataSettings(dataset="d", flip=True)


@pytest.mark.parametrize("scales", [(2.0, 1.0), (0.01, 1.0), (1.0, 11.0), (1.0, float("nan"))])
def test_scale_jitter_must_be_smallest_and_largest(scales: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="smallest <= largest"):
        DataSettings(dataset="d", scale_jitter=scales)

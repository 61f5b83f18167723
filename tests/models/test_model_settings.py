import pytest
from pydantic import ValidationError

from wholescene.models import ModelSettings


def test_defaults_are_usable_and_describe_an_architecture() -> None:
    settings = ModelSettings()
    made = settings.architecture
    assert (made.encoder, made.decoder, made.auxiliary) == ("resnet18", "unet", False)


def test_every_choice_reaches_the_architecture() -> None:
    settings = ModelSettings(
        encoder="resnet50",
        decoder="upernet",
        decoder_options={"channels": 64},
        encoder_options={"output_stride": 8},
        auxiliary=True,
        auxiliary_options={"level": -1, "channels": 1024},
    )
    assert settings.architecture.model_dump() == {
        "encoder": "resnet50",
        "decoder": "upernet",
        "decoder_options": {"channels": 64},
        "encoder_options": {"output_stride": 8},
        "auxiliary": True,
        "auxiliary_options": {"level": -1, "kernel_size": 3, "channels": 1024, "dropout": 0.1},
        "interaction": None,
        "refine": None,
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "resnet81"}, "did you mean 'resnet18'"),
        ({"decoder": "unett"}, "did you mean 'unet'.*fcn, unet, upernet"),
        ({"decoder_options": {"chanels": 3}}, "did you mean 'channels'"),
        ({"pretrained": True, "weights": "x.pth"}, "keep one"),
        ({"encodr": "resnet18"}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**wrong)

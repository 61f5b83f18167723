"""The ``loss`` section of a run configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wholescene.losses.weights import check_weights

__all__ = ["LossSettings", "LossTerm"]

LossTerm = Literal["cross_entropy", "dice", "lovasz", "focal"]


class LossSettings(BaseModel):
    """What is minimised: a weighted sum of losses.

    Args:
        terms: Weight > 0 of each loss: ``cross_entropy``, ``dice``, ``lovasz``, ``focal``.
        class_weights: ``"none"``; ``"inverse_frequency"`` or ``"inverse_sqrt_frequency"`` of the
            training labels; or a list, one number per class.
        auxiliary_weight: Weight of the same sum on the auxiliary head, if the model has one.
        auxiliary_weights: Weight of further outputs of the decoder, by name, where it shall not be
            the usual one.
        label_smoothing: Of the cross-entropy, 0 <= s < 1.
        focal_gamma: Of the focal loss, >= 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: dict[LossTerm, float] = Field(default={"cross_entropy": 1.0}, min_length=1)
    class_weights: (
        Literal["none", "inverse_frequency", "inverse_sqrt_frequency"] | tuple[float, ...]
    ) = "none"
    auxiliary_weight: float = Field(default=0.4, ge=0)
    auxiliary_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    focal_gamma: float = Field(default=2.0, ge=0)

    @field_validator("terms")
    @classmethod
    def _weights_count(cls, terms: dict[LossTerm, float]) -> dict[LossTerm, float]:
        for name, weight in terms.items():
            if not 0 < weight < float("inf"):
                raise ValueError(
                    f"weight {weight} of {name} is not > 0; leave a loss out to switch it off"
                )
        return terms

    @field_validator("class_weights")
    @classmethod
    def _weights_usable(cls, weights: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if not isinstance(weights, str):
            check_weights(weights)
        return weights

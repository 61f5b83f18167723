"""The sum of losses a run minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from wholescene.errors import ConfigError
from wholescene.losses.cross_entropy import CrossEntropy
from wholescene.losses.dice import Dice
from wholescene.losses.focal import Focal
from wholescene.losses.lovasz import Lovasz
from wholescene.losses.pixels import HERE, Sums, WeightedLoss
from wholescene.losses.settings import LossSettings
from wholescene.losses.weights import frequency_weights

__all__ = ["CombinedLoss", "build_loss"]

POWERS = {"inverse_frequency": 1.0, "inverse_sqrt_frequency": 0.5}


class CombinedLoss(nn.Module):
    """A weighted sum of losses, on one or more heads.

    Args:
        terms: Each loss with its weight.
        auxiliary_weights: Weight of the same sum on further logits, by name.
    """

    def __init__(
        self,
        terms: Mapping[str, tuple[WeightedLoss, float]],
        *,
        auxiliary_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.losses = nn.ModuleDict({name: loss for name, (loss, _) in terms.items()})
        self.weights = {name: weight for name, (_, weight) in terms.items()}
        self.auxiliary_weights = dict(auxiliary_weights or {})

    def terms(self, logits: Tensor, target: Tensor, sums: Sums = HERE) -> dict[str, Tensor]:
        """Each loss by itself, before its weight."""
        return {name: loss(logits, target, sums) for name, loss in self.losses.items()}

    def forward(
        self, outputs: Tensor | Mapping[str, Tensor], target: Tensor, sums: Sums = HERE
    ) -> Tensor:
        """Add up.

        Args:
            outputs: Logits (B, K, H, W), or what ``Segmenter.forward_train`` returns by name:
                ``"out"``, further logits, and losses (scalars), which are added as they are.
            target: (B, H, W), int64, class indices and ``IGNORE_INDEX``.
            sums: How sums over pixels are made, if others are elsewhere.

        Returns:
            A scalar.
        """
        if isinstance(outputs, Tensor):
            return self._sum(outputs, target, sums)
        # Also at weight 0: every parameter keeps a gradient, as DDP wants.
        parts = [
            self.auxiliary_weights.get(name, 1.0)
            * (self._sum(value, target, sums) if value.ndim else value)
            for name, value in outputs.items()
        ]
        return torch.stack(parts).sum()

    def _sum(self, logits: Tensor, target: Tensor, sums: Sums) -> Tensor:
        parts = self.terms(logits, target, sums)
        return torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()


def build_loss(
    settings: LossSettings,
    class_counts: Sequence[int] | None = None,
    *,
    auxiliary_weights: Mapping[str, float] | None = None,
) -> CombinedLoss:
    """Build the loss of a run.

    Args:
        settings: Which losses and weights.
        class_counts: Labelled training pixels of each class, in index order, ignored ones left out;
            needed for frequency weights only.
        auxiliary_weights: Usual weight of further logits, by name; those of the settings win.

    Raises:
        ConfigError: If frequency weights are asked for without counts, or an explicit list has the
            wrong length.
    """
    weights = _class_weights(settings, class_counts)
    made: dict[str, WeightedLoss] = {
        "cross_entropy": CrossEntropy(weights, label_smoothing=settings.label_smoothing),
        "dice": Dice(weights),
        "lovasz": Lovasz(weights),
        "focal": Focal(weights, gamma=settings.focal_gamma),
    }
    terms = {str(name): (made[name], weight) for name, weight in settings.terms.items()}
    known = {"aux": settings.auxiliary_weight, **(auxiliary_weights or {})}
    unknown = sorted(settings.auxiliary_weights.keys() - known.keys())
    if unknown:
        raise ConfigError(
            f"loss.auxiliary_weights names {unknown[0]!r}, which the model does not give; it gives "
            f"{', '.join(known)}"
        )
    return CombinedLoss(terms, auxiliary_weights={**known, **settings.auxiliary_weights})


def _class_weights(
    settings: LossSettings, class_counts: Sequence[int] | None
) -> tuple[float, ...] | None:
    asked = settings.class_weights
    if asked == "none":
        return None
    if not isinstance(asked, str):
        if class_counts is not None and len(asked) != len(class_counts):
            raise ConfigError(
                f"loss.class_weights lists {len(asked)} numbers for {len(class_counts)} classes; "
                "give one per class, in the order of the class table"
            )
        return asked
    if class_counts is None:
        raise ConfigError(
            f"loss.class_weights = {asked!r} needs the class counts of the training split; run "
            "'wholescene data stats DATASET' once, or set it to 'none' or a list"
        )
    return frequency_weights([int(n) for n in class_counts], power=POWERS[asked])

"""Losses on logits and class indices; ignored pixels never count."""

from wholescene.losses.combined import CombinedLoss, build_loss
from wholescene.losses.cross_entropy import CrossEntropy
from wholescene.losses.dice import Dice
from wholescene.losses.focal import Focal
from wholescene.losses.lovasz import Lovasz
from wholescene.losses.settings import LossSettings
from wholescene.losses.weights import frequency_weights

__all__ = [
    "CombinedLoss",
    "CrossEntropy",
    "Dice",
    "Focal",
    "LossSettings",
    "Lovasz",
    "build_loss",
    "frequency_weights",
]

"""Losses of the pretext tasks, one family per file."""

from wholescene.pretrain.losses.contrastive import info_nce, pair_contrast
from wholescene.pretrain.losses.cosine import cosine_distance
from wholescene.pretrain.losses.dense import (
    cell_diagonals,
    cell_places,
    dense_info_nce,
    near_agreement,
    near_cells,
)
from wholescene.pretrain.losses.masked import hidden_patch_error, hole_error, patchify
from wholescene.pretrain.losses.swav import sinkhorn, swapped_prediction
from wholescene.pretrain.losses.vicreg import (
    VicregWeights,
    matched_vicreg,
    nearest_features,
    nearest_places,
    vicreg,
)

__all__ = [
    "VicregWeights",
    "cell_diagonals",
    "cell_places",
    "cosine_distance",
    "dense_info_nce",
    "hidden_patch_error",
    "hole_error",
    "info_nce",
    "matched_vicreg",
    "near_agreement",
    "near_cells",
    "nearest_features",
    "nearest_places",
    "pair_contrast",
    "patchify",
    "sinkhorn",
    "swapped_prediction",
    "vicreg",
]

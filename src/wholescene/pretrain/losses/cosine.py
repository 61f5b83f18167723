"""Agreement by cosine, for methods without negatives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cosine_distance"]


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of ``2 - 2 cos``, the squared distance of the two on the unit sphere.

    Args:
        prediction: (N, D), any length.
        target: (N, D); gets no gradient.

    Source:
        BYOL: Grill et al. 2020, arXiv:2006.07733. SimSiam (Chen and He 2020, arXiv:2011.10566)
        takes half of it less one, which has the same gradient but for a factor.
    """
    return 2 - 2 * F.cosine_similarity(prediction.float(), target.float().detach(), dim=1).mean()

"""Swapped prediction of cluster codes (SwAV)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wholescene.pretrain.gather import gather, own_rank

__all__ = ["sinkhorn", "swapped_prediction"]


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft codes that use every prototype alike: a transport plan.

    Args:
        scores: Similarity of rows and prototypes, (N, K); rows of all ranks count together.
        epsilon: Softness of the plan.
        iterations: Rounds of balancing columns and rows; rows come last.

    Returns:
        (N, K), each row sums to 1 and, over all ranks, each column nearly to rows / K.

    Source:
        Caron et al. 2020, arXiv:2006.09882; in the logarithm, so that no power overflows.
    """
    plan = gather(scores.detach().float()) / epsilon
    for _ in range(iterations):
        plan = plan - plan.logsumexp(0, keepdim=True)
        plan = plan - plan.logsumexp(1, keepdim=True)
    start = own_rank() * len(scores)
    return plan[start : start + len(scores)].exp()


def swapped_prediction(
    scores: Sequence[Tensor],
    *,
    num_full: int = 2,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Tensor:
    """Predict the codes of each full view from every other view.

    Args:
        scores: Cosines of each view's rows and the prototypes, (N, K); full views first.
        num_full: Views whose codes are predicted.
        temperature: Divides the scores that predict.
        epsilon: As for :func:`sinkhorn`.
        iterations: As for :func:`sinkhorn`.

    Returns:
        Mean cross-entropy, a scalar.
    """
    terms = []
    for place in range(num_full):
        codes = sinkhorn(scores[place], epsilon=epsilon, iterations=iterations)
        for other, predicted in enumerate(scores):
            if other != place:
                logs = (predicted.float() / temperature).log_softmax(1)
                terms.append(-(codes * logs).sum(1).mean())
    return torch.stack(terms).mean()

"""Contrastive losses: InfoNCE against a queue or the batch, and its decoupled form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wholescene.pretrain.gather import gather, own_rank, sum_over_ranks
from wholescene.pretrain.precision import in_float32

__all__ = ["info_nce", "pair_contrast"]

# Letters: N rows, K keys of a queue, D features.


@in_float32
def info_nce(query: Tensor, key: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Tell each query's own key from the keys of a queue.

    Args:
        query: (N, D), any length; compared by cosine.
        key: The positive of each, (N, D).
        negatives: (K, D).
        temperature: Divides the cosines.

    Returns:
        Mean of ``-log(e^p / (e^p + sum e^n))``, a scalar.

    Source:
        He et al. 2020, arXiv:1911.05722.
    """
    query, key = F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ F.normalize(negatives.float(), dim=1).T], dim=1)
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits / temperature, target)


@in_float32
def pair_contrast(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float,
    decoupled: bool,
    group: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Tell each row's partner from all other rows of the batch, on all ranks, in both directions.

    Args:
        first: (N, D), any length; compared by cosine.
        second: The partner of each, (N, D).
        temperature: Divides the cosines.
        decoupled: Leave the positive out of the denominator: ``logsumexp(negatives) - positive``.
        group: Rows with the same number are no negatives of each other, (N,); ``None``: all are.
            Numbers count within a rank; rows of other ranks are always negatives.
        valid: Whether a pair counts, (N,); others are left out, as negatives too. ``None``: all do.

    Returns:
        Mean over both rows of every pair, a scalar.

    Source:
        NT-Xent: Chen et al. 2020, arXiv:2002.05709. Decoupled: Yeh et al. 2021, arXiv:2110.06848,
        which GLCNet's release uses (arXiv:2106.10605).
    """
    count = len(first)
    first, second = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    everyone = torch.cat([gather(first), gather(second)])
    logits = torch.cat([first, second]) @ everyone.T / temperature
    total, start = len(everyone) // 2, own_rank() * count
    here = torch.arange(start, start + count, device=logits.device)
    own, partner = torch.cat([here, here + total]), torch.cat([here + total, here])
    positive = logits.gather(1, partner[:, None])[:, 0]
    excluded = torch.zeros_like(logits, dtype=torch.bool)
    if group is not None:
        both = group.repeat(2)
        excluded[:, own] = both[:, None] == both[None]
    excluded.scatter_(1, own[:, None], True)
    excluded.scatter_(1, partner[:, None], decoupled)
    counts = torch.ones(count, device=logits.device) if valid is None else valid.float()
    excluded |= gather(counts).repeat(2)[None] == 0
    lost = logits.masked_fill(excluded, -torch.inf).logsumexp(1) - positive
    lost = torch.where(counts.repeat(2) > 0, lost, 0.0)
    # Over the mean count of the ranks, so that their mean is the mean over all pairs.
    pairs = sum_over_ranks(counts.sum()) * count / total
    return lost.sum() / (2 * pairs).clamp_min(1)

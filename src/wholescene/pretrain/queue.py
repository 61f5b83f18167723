"""Keys of earlier batches, to be told apart from."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import ConfigError
from wholescene.pretrain.gather import gather

__all__ = ["KeyQueue"]


class KeyQueue(nn.Module):
    """The last keys, oldest overwritten first; begins with random directions.

    Args:
        size: Keys it holds.
        features: Features of a key.
    """

    keys: Tensor
    added: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, features), dim=1))
        self.register_buffer("added", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Add the keys (N, D) of all ranks.

        Raises:
            ConfigError: If they are more than the queue holds.
        """
        keys = F.normalize(gather(keys.detach().float().contiguous()), dim=1)
        size = len(self.keys)
        if len(keys) > size:
            raise ConfigError(
                f"method.options.queue = {size} holds less than the {len(keys)} keys of one batch; "
                "raise it, or lower data.batch_size"
            )
        start = cast(int, self.added.item()) % size
        places = (torch.arange(len(keys), device=keys.device) + start) % size
        self.keys[places] = keys
        self.added += len(keys)

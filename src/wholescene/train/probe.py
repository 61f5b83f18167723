"""One training step without arithmetic: which weights it reaches, how much memory it holds."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wholescene.geometry import Size
from wholescene.models import Segmenter
from wholescene.train.contract import RunSettings
from wholescene.train.frozen import Freeze, FreezeNorm, freeze_weights, resting_parts

__all__ = ["StepProbe", "probe_run", "probe_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProbe:
    """What one training step does.

    Args:
        num_parameters: Weights of the network.
        num_trained: Those of them that learn.
        unreached: Names of parameters that get no gradient.
        activation_bytes: What is kept from the forward for the backward pass, in float32.
    """

    num_parameters: int
    num_trained: int
    unreached: tuple[str, ...]
    activation_bytes: int


def probe_run(model: Segmenter, config: RunSettings, patch: Size) -> StepProbe | None:
    """Run forward and backward of a run on shapes only; see :func:`probe_step`."""
    return probe_step(
        model,
        batch_size=config.data.batch_size,
        patch=patch,
        freeze=config.train.freeze,
        freeze_norm=config.train.freeze_norm,
    )


def probe_step(
    model: Segmenter,
    *,
    batch_size: int,
    patch: Size,
    freeze: Freeze = "none",
    freeze_norm: FreezeNorm = "none",
) -> StepProbe | None:
    """Run forward and backward on shapes only.

    Args:
        model: The network.
        batch_size: Samples of a batch.
        patch: Their size.
        freeze: Part of the network that stays as it is, in evaluation mode.
        freeze_norm: Part of the network whose batch norms stay in evaluation mode.

    Returns:
        What was found; ``None`` if the network looks at values and so cannot run without them.
    """
    shadow = copy.deepcopy(model).to("meta").train()
    freeze_weights(shadow, freeze)
    for part in resting_parts(shadow, freeze=freeze, freeze_norm=freeze_norm):
        part.eval()
    image = torch.empty(batch_size, model.spec.num_bands, *patch, device="meta")
    owned = {_identity(tensor) for tensor in (*shadow.parameters(), *shadow.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _identity(tensor) not in owned:
            kept.setdefault(_identity(tensor), tensor)
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            target = torch.zeros(
                (len(image), *image.shape[-2:]), dtype=torch.int64, device=image.device
            )
            outputs = shadow.forward_train(image, target)
            total = torch.stack([logits.sum() for logits in outputs.values()]).sum()
        torch.autograd.backward(total)
    except (NotImplementedError, RuntimeError):
        return None
    return StepProbe(
        num_parameters=_count(shadow.parameters()),
        num_trained=_count(p for p in shadow.parameters() if p.requires_grad),
        unreached=tuple(
            name
            for name, parameter in shadow.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ),
        activation_bytes=sum(tensor.untyped_storage().nbytes() for tensor in kept.values()),
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)

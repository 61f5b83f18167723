"""The published dilation plan of ResNets, which timm's differs from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from timm.layers.pool2d_same import AvgPool2dSame
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from wholescene.errors import ConfigError
from wholescene.models.wording import explain

__all__ = ["DilationPlan", "apply_dilation", "split_dilation"]

STAGES = ("layer1", "layer2", "layer3", "layer4")


class DilationPlan(BaseModel):
    """How the stages of a ResNet at output stride 8 or 16 are dilated.

    Args:
        dilation: ``"timm"`` leaves the first block of a dilated stage at the dilation of the stage
            before; ``"published"`` gives every block of a stage the same (2 and 4 at output stride
            8, 2 at 16), and no average pooling to the shortcut of a stage that keeps its size.
        multi_grid: Factors on the dilation of each block of the last stage, such as 1, 2, 4; with
            ``"published"`` only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dilation: Literal["timm", "published"] = "timm"
    multi_grid: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _goes_together(self) -> DilationPlan:
        if self.multi_grid is not None and self.dilation != "published":
            raise ValueError("multi_grid needs dilation = 'published'")
        return self


def split_dilation(options: Mapping[str, Any]) -> tuple[DilationPlan, dict[str, Any]]:
    """Part the options of an encoder into those of the plan and those of timm.

    Raises:
        ConfigError: If those of the plan are not legal.
    """
    ours = {key: value for key, value in options.items() if key in DilationPlan.model_fields}
    theirs = {key: value for key, value in options.items() if key not in ours}
    try:
        return DilationPlan.model_validate(ours), theirs
    except ValidationError as error:
        raise ConfigError(
            f"model.encoder_options cannot be used: {explain(error, DilationPlan)}"
        ) from None


def apply_dilation(net: nn.Module, plan: DilationPlan, name: str) -> None:
    """Give a ResNet of timm the plan, in place; its weights stay as they are.

    Args:
        net: Built by ``timm.create_model(..., features_only=True)``.
        plan: What is asked for; timm's own changes nothing.
        name: timm name, for messages.

    Raises:
        ConfigError: If the network is no ResNet, or the factors do not fit its last stage.
    """
    if plan.dilation == "timm":
        return
    stages = [getattr(net, stage) for stage in STAGES if hasattr(net, stage)]
    if not stages or not all(_is_block(block) for stage in stages for block in stage):
        raise ConfigError(
            f"encoder {name!r} has no blocks of a ResNet, so there is no published dilation for "
            "it; leave out model.encoder_options.dilation and multi_grid"
        )
    for stage in stages:
        _dilate(stage, [_dilation_of(stage[-1])] * len(stage))
    if plan.multi_grid is not None:
        _apply_multi_grid(net, plan.multi_grid, name)


def _apply_multi_grid(net: nn.Module, factors: tuple[int, ...], name: str) -> None:
    last = getattr(net, STAGES[-1], None)
    if not isinstance(last, nn.Sequential) or len(last) != len(factors):
        count = len(last) if isinstance(last, nn.Sequential) else 0
        raise ConfigError(
            f"model.encoder_options.multi_grid lists {len(factors)} factors {list(factors)}, but "
            f"the last stage of encoder {name!r} has {count} blocks here; give one for each"
        )
    dilation = _dilation_of(last[0])
    if dilation == 1:
        raise ConfigError(
            f"model.encoder_options.multi_grid multiplies the dilation of the last stage, and "
            f"encoder {name!r} has none at output stride 32; set output_stride to 8 or 16"
        )
    _dilate(last, [factor * dilation for factor in factors])


def _is_block(block: nn.Module) -> bool:
    return isinstance(block, BasicBlock | Bottleneck)


def _dilation_of(block: nn.Module) -> int:
    """Largest dilation in a block; that of its stage, but in the first block."""
    return max(conv.dilation[0] for conv in _wide(block))


def _dilate(stage: nn.Sequential, dilations: list[int]) -> None:
    for block, dilation in zip(stage, dilations, strict=True):
        for conv in _wide(block):
            conv.dilation = conv.padding = (dilation, dilation)
    shortcut = stage[0].downsample
    if isinstance(shortcut, nn.Sequential) and isinstance(shortcut[0], AvgPool2dSame):
        # timm pools with stride 1 here; the place stays, so that the weights keep their names.
        shortcut[0] = nn.Identity()


def _wide(block: nn.Module) -> Iterator[nn.Conv2d]:
    """3 x 3 convolutions of a block."""
    for part in (block.conv1, block.conv2):
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3):
            yield part

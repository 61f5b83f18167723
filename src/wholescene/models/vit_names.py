"""Names and shapes of plain vision transformers in other people's files, brought to timm's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

__all__ = ["plain_transformer", "timm_names", "timm_shapes"]

BLOCK = r"(blocks\.\d+)\."
RENAMES = tuple(
    (re.compile(old), new)
    for old, new in (
        # DINOv2 in training keeps blocks in chunks.
        (r"\bblocks\.\d+\.(\d+)\.", r"blocks.\1."),
        # transformers (ViT, ViT-MAE, DINOv2, DINOv3), and mmpretrain, whose names S5 has.
        (r"\b(?:encoder|model)\.layers?\.(\d+)\.", r"blocks.\1."),
        (r"\blayers?\.(\d+)\.(?=a|f|ln|norm|layer|mlp|inter|out)", r"blocks.\1."),
        (r"\bembeddings\.position_embeddings$", "pos_embed"),
        (r"\bembeddings\.(cls_token|register_tokens|mask_token)$", r"\1"),
        (r"\bembeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
        (r"\bpatch_embed\.projection\.", "patch_embed.proj."),
        (r"\b(?:register_tokens|storage_tokens)$", "reg_token"),
        (BLOCK + r"attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
        (
            BLOCK + r"attention\.(?:attention\.)?(?=(q|k|v))(?:query|key|value|._proj)\.",
            r"\1.attn.\2.",
        ),
        (BLOCK + r"attn\.(q|k|v)_proj\.", r"\1.attn.\2."),
        (BLOCK + r"(?:layernorm_before|ln1)\.", r"\1.norm1."),
        (BLOCK + r"(?:layernorm_after|ln2)\.", r"\1.norm2."),
        (
            BLOCK + r"(?:intermediate\.dense|ffn\.layers\.0\.0|mlp\.(?:up_proj|w12))\.",
            r"\1.mlp.fc1.",
        ),
        (BLOCK + r"(?:output\.dense|ffn\.layers\.1|mlp\.(?:down_proj|w3))\.", r"\1.mlp.fc2."),
        (BLOCK + r"layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    )
)
"""Applied in this order; whatever stands before a name stays."""
PART = re.compile(r"(.*\battn\.)([qkv])\.(weight|bias)$")


def plain_transformer(net: nn.Module) -> VisionTransformer | Eva | None:
    """Give the plain transformer within a timm feature extractor, if it is one."""
    model = getattr(net, "model", None)
    return model if isinstance(model, VisionTransformer | Eva) else None


def timm_names(tensors: Mapping[str, Tensor], model: VisionTransformer | Eva) -> dict[str, Tensor]:
    """Rename what other libraries call otherwise; queries, keys and values become one tensor.

    Knows MAE, SatMAE, Scale-MAE, DOFA, DINOv2 and DINOv3 as published, their forms in
    ``transformers``, and those of mmpretrain (S5). Other names stay as they are.

    Args:
        tensors: By dotted name, with any prefix.
        model: Network that will take them.
    """
    renamed = {_renamed(name): value for name, value in tensors.items()}
    joined = _join_parts(renamed)
    return _as_eva(joined, model) if isinstance(model, Eva) else joined


def timm_shapes(found: Mapping[str, Tensor], model: VisionTransformer | Eva) -> dict[str, Tensor]:
    """Fit positions and patches to the network.

    Positions are resized to its grid (bicubic), and get or lose the place of the class token. A
    file without positions gets the sines and cosines of MAE, which Scale-MAE computes instead of
    storing. Patch embeddings of another patch size are resampled so that they see the same.

    Args:
        found: By flat name (``patch_embed_proj_weight``), without prefix.
        model: Network that will take them.
    """
    fitted = dict(found)
    if model.pos_embed is not None:
        _fit_positions(fitted, model)
    kernel, own = fitted.get("patch_embed_proj_weight"), model.patch_embed.proj.weight
    if kernel is not None and kernel.ndim == 4 and kernel.shape[2:] != own.shape[2:]:
        fitted["patch_embed_proj_weight"] = resample_patch_embed(
            kernel.float(), list(own.shape[2:])
        )
    return fitted


def _renamed(name: str) -> str:
    for old, new in RENAMES:
        name = old.sub(new, name)
    return name


def _join_parts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack query, key and value; a bias that one of them lacks is 0."""
    joined: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        match = PART.fullmatch(name)
        if match is None:
            joined[name] = value
        else:
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = value
    for name, found in parts.items():
        blank = torch.zeros_like(next(iter(found.values())))
        if len(found) == 3 or name.endswith("bias"):
            joined[name] = torch.cat([found.get(part, blank) for part in "qkv"])
    return joined


def _as_eva(tensors: Mapping[str, Tensor], model: Eva) -> dict[str, Tensor]:
    """Names of timm's DINOv3: layer scales, and biases of queries and values only."""
    named: dict[str, Tensor] = {}
    has_parts = any(name.endswith("attn.q_bias") for name, _ in model.named_parameters())
    for name, value in tensors.items():
        name = re.sub(r"\bls([12])\.gamma$", r"gamma_\1", name)
        if name.endswith("attn.qkv.bias") and has_parts:
            queries, _, values = value.chunk(3)
            stem = name.removesuffix("qkv.bias")
            named |= {f"{stem}q_bias": queries, f"{stem}v_bias": values}
        else:
            named[name] = value
    return named


def _fit_positions(fitted: dict[str, Tensor], model: VisionTransformer | Eva) -> None:
    own = 0 if model.no_embed_class else model.num_prefix_tokens
    grid = model.patch_embed.grid_size
    positions = fitted.get("pos_embed")
    if positions is None:
        table = sine_cosine(grid, model.embed_dim)
        fitted["pos_embed"] = torch.cat([table.new_zeros(1, own, model.embed_dim), table], 1)
        return
    if positions.ndim != 3:
        return
    extra = positions.shape[1] - math.isqrt(positions.shape[1]) ** 2
    if extra == 1 and own == 0:
        token, positions = positions[:, :1], positions[:, 1:]
        if "cls_token" in fitted:
            fitted["cls_token"] = fitted["cls_token"] + token
    elif extra == 0 and own == 1:
        positions = torch.cat([positions.new_zeros(1, 1, positions.shape[2]), positions], 1)
    elif extra != own:
        return
    fitted["pos_embed"] = resample_abs_pos_embed(positions, list(grid), num_prefix_tokens=own)


def sine_cosine(grid: tuple[int, int], channels: int) -> Tensor:
    """Positions as MAE fixes them: sines and cosines of the column, then of the row.

    Args:
        grid: Rows and columns.
        channels: A multiple of 4.

    Returns:
        (1, rows * columns, channels).
    """
    rates = 10000 ** (-torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))
    rows, cols = torch.meshgrid(*(torch.arange(n).double() for n in grid), indexing="ij")
    parts = []
    for place in (cols, rows):
        angle = place.flatten()[:, None] * rates
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, 1).float().unsqueeze(0)

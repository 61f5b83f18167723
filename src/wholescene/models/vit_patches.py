"""Patch embeddings that plain ViTs for satellite images have several of, or make on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

import torch
from torch import Tensor

from wholescene.errors import ModelFileError
from wholescene.models.first_layer import match_bands
from wholescene.raster.source import BandSpec

__all__ = ["PatchFile", "read_patches"]

SATMAE_BANDS: dict[tuple[int, ...], tuple[str, ...]] = {
    (4, 4, 2): (
        *("blue", "green", "red", "nir"),
        *("rededge1", "rededge2", "rededge3", "nir_narrow"),
        *("swir1", "swir2"),
    )
}
"""Published groups of Sentinel-2 bands by their sizes: B2 B3 B4 B8, B5 B6 B7 B8A, B11 B12."""
TWO_FORMS = (
    "DOFA makes them from wavelengths, and two published programs shape what its generator gives "
    "in two ways, without a sign in the file which of them trained it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchFile:
    """The tensors of a plain ViT, with one patch embedding or with none.

    Args:
        tensors: By flat name, without prefix.
        bands: Bands its patch embedding was trained on, where known.
        why_fresh: Why there is no patch embedding to load, or nothing.
    """

    tensors: dict[str, Tensor]
    bands: tuple[str, ...] | None
    why_fresh: str = ""


def read_patches(
    found: Mapping[str, Tensor],
    bands: Sequence[BandSpec],
    source_bands: Sequence[str] | None,
    *,
    has_generator: bool,
) -> PatchFile:
    """Give a file the one patch embedding of a plain ViT, where that is well defined.

    SatMAE reads groups of bands, and makes a token of each group at each place. A network with one
    token for each place is the same as long as its bands come from one group: it gets the patch
    embedding of that group, and positions with the part that tells groups apart. Where they come
    from several, there is no such embedding.

    DOFA generates its patch embedding, see ``TWO_FORMS``.

    Args:
        found: Tensors by flat name, without prefix.
        bands: Bands of the model.
        source_bands: Bands the file was trained on; those of each group after another. ``None``
            takes those published for SatMAE.
        has_generator: Whether the file holds a generator of patch embeddings, as DOFA.

    Raises:
        ModelFileError: If ``source_bands`` are not as many as the groups read.

    Source:
        Cong et al. 2022, arXiv:2207.08051 (SatMAE); Xiong et al. 2024, arXiv:2403.15356 (DOFA).
    """
    named = None if source_bands is None else tuple(source_bands)
    sizes = _group_sizes(found)
    if "patch_embed_proj_weight" in found or not (has_generator or sizes):
        return PatchFile(tensors=dict(found), bands=named)
    if has_generator:
        return PatchFile(tensors=dict(found), bands=named, why_fresh=TWO_FORMS)
    named = named or SATMAE_BANDS.get(sizes)
    if named is not None and len(named) != sum(sizes):
        raise ModelFileError(
            f"these weights read groups of {' + '.join(map(str, sizes))} bands, and {len(named)} "
            "are named; set model.weights_bands to the bands of each group, one group after another"
        )
    group, why = _choose(bands, named, sizes)
    tensors = _with_positions(found, group)
    if group is None or named is None:
        return PatchFile(tensors=tensors, bands=None, why_fresh=why)
    start = f"patch_embed_{group}_"
    own = {name: tensors.pop(name) for name in found if name.startswith(start)}
    tensors |= {f"patch_embed_{name.removeprefix(start)}": value for name, value in own.items()}
    return PatchFile(tensors=tensors, bands=_split(named, sizes)[group])


def _group_sizes(found: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Bands of each group, none if there are no groups, or nothing tells their tokens apart."""
    sizes = []
    for number in count():
        kernel = found.get(f"patch_embed_{number}_proj_weight")
        if kernel is None or kernel.ndim != 4:
            break
        sizes.append(kernel.shape[1])
    parts = found.get("channel_embed"), found.get("pos_embed")
    told_apart = all(part is not None and part.ndim == 3 for part in parts)
    return tuple(sizes) if told_apart and len(sizes) == found["channel_embed"].shape[1] else ()


def _split(names: Sequence[str], sizes: tuple[int, ...]) -> list[tuple[str, ...]]:
    ends = tuple(accumulate(sizes))
    return [tuple(names[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def _choose(
    bands: Sequence[BandSpec], names: Sequence[str] | None, sizes: tuple[int, ...]
) -> tuple[int | None, str]:
    """Find the one group that reads the model's bands, or say why there is none."""
    if names is None:
        return None, (
            f"the bands of its groups of {' + '.join(map(str, sizes))} are not known; set "
            "model.weights_bands to them, one group after another"
        )
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    read = {groups[channel] for channel in match_bands(bands, names) if channel is not None}
    if len(read) == 1:
        return read.pop(), ""
    listed = " | ".join(", ".join(group) for group in _split(names, sizes))
    own = ", ".join(band.name for band in bands)
    if not read:
        return None, f"no band of {own} is among those of its groups {listed}"
    return None, (
        f"the bands {own} come from {len(read)} of its groups {listed}, which it reads as separate "
        "tokens; bands of one group would start from its patch embedding"
    )


def _with_positions(found: Mapping[str, Tensor], group: int | None) -> dict[str, Tensor]:
    """Join positions in space with what tells groups apart: that of a group, or the mean."""
    tensors = dict(found)
    by_group, places = tensors.pop("channel_embed"), tensors["pos_embed"]
    own = by_group.mean(1, keepdim=True) if group is None else by_group[:, group : group + 1]
    for_class = tensors.pop("channel_cls_embed", torch.zeros_like(own))
    rest = own.expand(-1, places.shape[1] - 1, -1)
    tensors["pos_embed"] = torch.cat([places, torch.cat([for_class, rest], 1)], 2)
    return tensors

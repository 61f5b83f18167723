"""Pretrained first layers for bands they never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wholescene.raster.source import BandSpec

__all__ = ["RGB", "adapt_kernel", "first_layer_keys", "match_bands"]

RGB = ("red", "green", "blue")
ALIASES = {"r": "red", "g": "green", "b": "blue"}
CENTRES_NM = {
    "red": (620.0, 665.0, 700.0),
    "green": (510.0, 560.0, 590.0),
    "blue": (435.0, 490.0, 510.0),
}
"""Lowest, typical and highest centre wavelength of each colour."""


def match_bands(bands: Sequence[BandSpec], source_bands: Sequence[str]) -> list[int | None]:
    """Find the channel of a pretrained layer that saw each band.

    By name (``red`` or ``r``, any case); a colour no band is named after goes to the band whose
    wavelength is nearest to it, if one lies within that colour.

    Args:
        bands: Bands of the model.
        source_bands: Names of the channels of the pretrained layer.

    Returns:
        For each band a channel number, or ``None``.

    Examples:
        >>> bands = [
        ...     BandSpec(name="nir"),
        ...     BandSpec(name="R"),
        ...     BandSpec(name="b3", wavelength_nm=560),
        ... ]
        >>> match_bands(bands, RGB)
        [None, 0, 1]
    """
    names = [_plain(band.name) for band in bands]
    matches: list[int | None] = [None] * len(bands)
    for channel, source in enumerate(map(_plain, source_bands)):
        if source in names:
            matches[names.index(source)] = channel
            continue
        found = _nearest_in_colour(bands, source)
        if found is not None and matches[found] is None:
            matches[found] = channel
    return matches


def adapt_kernel(kernel: Tensor, matches: Sequence[int | None], *, num_source: int) -> Tensor:
    """Turn a first layer's kernel for some bands into one for others.

    Matched bands get their channel's kernel, others the mean of all channels; then everything is
    scaled by ``num_source / len(matches)``, so that inputs of the same magnitude excite the layer
    as strongly as before.

    Args:
        kernel: (out, n * num_source, kh, kw); n > 1 where the model first folds space into
            channels.
        matches: As from ``match_bands``.
        num_source: Bands the kernel was trained on.

    Returns:
        (out, n * len(matches), kh, kw).
    """
    out, folded, *sides = kernel.shape
    by_band = kernel.float().reshape(out, folded // num_source, num_source, *sides)
    mean = by_band.mean(2)
    picked = [mean if channel is None else by_band[:, :, channel] for channel in matches]
    adapted = torch.stack(picked, 2) * (num_source / len(matches))
    return adapted.reshape(out, -1, *sides)


def first_layer_keys(net: nn.Module) -> tuple[str, ...]:
    """Names of the kernels of a timm feature extractor that read the image, if timm says so."""
    stated = (getattr(net, "default_cfg", None) or {}).get("first_conv") or ()
    wanted = (stated,) if isinstance(stated, str) else tuple(stated)
    # Feature extractors flatten sequences (stem.0 -> stem_0) or wrap the model (model.stem.0).
    flat = {_flat(key).removeprefix("model_"): key for key in net.state_dict()}
    keys = tuple(flat.get(_flat(f"{name}.weight"), "") for name in wanted)
    return keys if all(keys) else ()


def _nearest_in_colour(bands: Sequence[BandSpec], colour: str) -> int | None:
    if colour not in CENTRES_NM:
        return None
    low, typical, high = CENTRES_NM[colour]
    inside = [
        (abs(band.wavelength_nm - typical), index)
        for index, band in enumerate(bands)
        if band.wavelength_nm is not None and low <= band.wavelength_nm <= high
    ]
    return min(inside)[1] if inside else None


def _plain(name: str) -> str:
    lowered = name.strip().lower()
    return ALIASES.get(lowered, lowered)


def _flat(key: str) -> str:
    return key.replace(".", "_")

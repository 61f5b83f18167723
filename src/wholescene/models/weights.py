"""Starting an encoder from weights somebody trained before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wholescene.errors import ConfigError, ModelFileError
from wholescene.models.container import read_container
from wholescene.models.encoder import Encoder, create_features
from wholescene.models.first_layer import RGB, adapt_kernel, first_layer_keys, match_bands
from wholescene.models.paddle import encoder_names, read_paddle
from wholescene.models.segmenter import Segmenter
from wholescene.models.tensors import read_checkpoint
from wholescene.models.vit_names import plain_transformer, timm_names, timm_shapes
from wholescene.models.vit_patches import read_patches
from wholescene.models.wording import first_five
from wholescene.raster.source import BandSpec

__all__ = ["WeightReport", "load_encoder_weights", "load_timm_weights"]

MIN_COVERAGE = 0.99
COUNTER = "num_batches_tracked"
"""Of batch norms; it says nothing about weights, and old files lack it."""
TOKENS = ("cls_token", "reg_token", "pos_embed")
"""Tensors of a ViT that must be there however small their share."""
WITHOUT_CLASS = (
    "; a ViT trained without a class token needs model.encoder_options = {class_token: false, "
    "global_pool: avg}"
)
PATCHES = "patch_embed_proj_"
GENERATOR = "patch_embed_weight_generator_"
"""In the names of the tensors DOFA makes its patch embedding with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReport:
    """How much of an encoder a file filled.

    Args:
        source: Where the weights came from.
        matched: Tensors loaded.
        total: Tensors of the encoder, without the fresh ones.
        missing: Tensors the file has none for.
        misshapen: Tensors whose shape differs, with both shapes.
        unused: Tensors of the file that went nowhere.
        placed: For each band of the model the name of the pretrained band whose kernel it got, or
            ``None`` for the mean of all.
        fresh: Tensors left at their random start, because files of this kind hold nothing that
            could fill them.
        why_fresh: Why, in words.
    """

    source: str
    matched: int
    total: int
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unused: tuple[str, ...]
    placed: tuple[str | None, ...]
    fresh: tuple[str, ...] = ()
    why_fresh: str = ""

    @property
    def coverage(self) -> float:
        """Share of the encoder's tensors that were loaded, of those that are not fresh."""
        return self.matched / self.total

    @property
    def line(self) -> str:
        """Say in one line what was loaded, and what starts at random."""
        loaded = f"{self.matched} of {self.total} encoder tensors from {self.source}"
        if not self.fresh:
            return loaded
        return f"{loaded}; {', '.join(self.fresh)} start at random: {self.why_fresh}"


def load_timm_weights(model: Segmenter) -> WeightReport:
    """Fetch timm's weights of the encoder and place them by band.

    Raises:
        ModelFileError: If there are none, or they cannot be fetched.
    """
    encoder = model.encoder
    options = {**encoder.size_options, **model.spec.architecture.encoder_options}
    try:
        trained = create_features(encoder.name, len(RGB), options, pretrained=True)
    except ConfigError:
        raise
    except Exception as error:  # whatever the network stack beneath timm raises
        raise ModelFileError(
            f"no pretrained weights for encoder {encoder.name!r}: {_first_line(error)}. Without a "
            "network connection, download them elsewhere and set model.weights to the .safetensors "
            "or .pth file; or set model.pretrained = false to start from random weights"
        ) from error
    state = {_own_name(key): value for key, value in trained.state_dict().items()}
    return _fill(model, state, f"timm weights of {encoder.name!r}", source_bands=RGB)


def load_encoder_weights(
    model: Segmenter,
    path: str | Path,
    *,
    source_bands: Sequence[str] | None = None,
    prefix: str | None = None,
) -> WeightReport:
    """Load the encoder's weights from a file, wherever in it they are.

    Reads safetensors, PyTorch checkpoints (without unpickling code) and models of this package.
    Names may have any common prefix (``backbone.``, ``state_dict.module.`` ...). Plain ViTs may
    have the names of other libraries (``wholescene.models.vit_names``) and patch embeddings for
    groups of bands (``wholescene.models.vit_patches``), and .pdparams files the names of PaddleSeg
    and PASSL (``wholescene.models.paddle``).

    Args:
        model: Its encoder is filled, its decoder left alone.
        path: File, model directory or zip.
        source_bands: Bands the file was trained on, in order, or those of each of its groups after
            another. ``None`` is what a model of this package says, else red, green, blue for three
            channels, else those published for SatMAE's groups, else the model's own bands.
        prefix: What stands before the encoder's names, needed where a file holds several encoders.

    Returns:
        What was matched. The model is untouched when an error is raised.

    Raises:
        ModelFileError: If the file cannot be read, holds several encoders, or fills less than 99 %
            of the encoder's tensors.
    """
    tensors, bands = _read_source(Path(path), model.encoder)
    transformer = plain_transformer(model.encoder.net)
    if transformer is not None:
        tensors = timm_names(tensors, transformer)
    flat = {_flat(key): value for key, value in tensors.items()}
    start = _find_prefix(model.encoder, flat, str(path)) if prefix is None else _flat(prefix)
    found = {key.removeprefix(start): v for key, v in flat.items() if key.startswith(start)}
    named = source_bands or bands
    if transformer is None:
        return _fill(model, found, str(path), source_bands=named)
    has_generator = any(GENERATOR in key for key in flat)
    patches = read_patches(found, _bands(model), named, has_generator=has_generator)
    found = timm_shapes(patches.tensors, transformer)
    return _fill(model, found, str(path), source_bands=patches.bands, why_fresh=patches.why_fresh)


def _read_source(path: Path, encoder: Encoder) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Read tensors, and the bands they were trained on where the file says so."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        spec, tensors, _ = read_container(path)
        return tensors, spec.band_names
    if path.suffix.lower() == ".pdparams":
        return encoder_names(read_paddle(path), encoder.net, str(path)), None
    return read_checkpoint(path), None


def _fill(
    model: Segmenter,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    source_bands: Sequence[str] | None,
    why_fresh: str = "",
) -> WeightReport:
    """Match by flat name and shape, check the coverage, and only then change the model."""
    net = model.encoder.net
    flat = dict(tensors)
    first = _first_layers(model.encoder)
    state, missing, misshapen = {}, [], []
    placed: tuple[str | None, ...] = ()
    wanted = {k: v for k, v in net.state_dict().items() if not k.endswith(COUNTER)}
    fresh = tuple(key for key in wanted if why_fresh and _own_name(key).startswith(PATCHES))
    for key in fresh:
        del wanted[key]
    for key, own in wanted.items():
        value = flat.pop(_own_name(key), None)
        if value is None:
            missing.append(key)
            continue
        if key in first:
            value, placed = _place(value, own, _bands(model), source_bands)
        if value.shape == own.shape:
            state[key] = value
        else:
            misshapen.append(f"{key} {tuple(value.shape)} instead of {tuple(own.shape)}")
    report = WeightReport(
        source=source,
        matched=len(state),
        total=len(wanted),
        missing=tuple(missing),
        misshapen=tuple(misshapen),
        unused=tuple(key for key in flat if not key.endswith(COUNTER)),
        placed=placed,
        fresh=fresh,
        why_fresh=why_fresh,
    )
    _require_coverage(report, model.encoder, first)
    net.load_state_dict(state, strict=False)
    return report


def _bands(model: Segmenter) -> list[BandSpec]:
    return [band for part in model.spec.sources for band in part.bands or ()]


def _first_layers(encoder: Encoder) -> tuple[str, ...]:
    keys = first_layer_keys(encoder.net)
    if not keys:
        raise ModelFileError(
            f"timm does not say which layer of encoder {encoder.name!r} reads the image, so "
            "pretrained kernels cannot be placed by band; set model.pretrained = false and leave "
            "out model.weights, or choose another encoder"
        )
    return keys


def _place(
    kernel: Tensor, own: Tensor, bands: Sequence[BandSpec], source_bands: Sequence[str] | None
) -> tuple[Tensor, tuple[str | None, ...]]:
    """Bring a first-layer kernel to the bands of the model, if it was trained on other ones."""
    if kernel.ndim != 4 or own.ndim != 4:
        return kernel, ()
    fold = max(1, own.shape[1] // len(bands))
    num_source = kernel.shape[1] // fold
    if source_bands is None and num_source == len(RGB):
        source_bands = RGB
    if source_bands is None or len(source_bands) != num_source or kernel.shape[1] % num_source:
        return kernel, ()
    matches = match_bands(bands, source_bands)
    names = tuple(None if m is None else source_bands[m] for m in matches)
    return adapt_kernel(kernel, matches, num_source=num_source), names


def _find_prefix(encoder: Encoder, flat: Mapping[str, Tensor], source: str) -> str:
    """Find what stands before the encoder's names in a file, by trying what would fit."""
    wanted = [_own_name(key) for key in encoder.net.state_dict() if not key.endswith(COUNTER)]
    candidates = {
        key.removesuffix(name) for name in wanted[:3] for key in flat if key.endswith(name)
    }
    hits = {start: sum(start + name in flat for name in wanted) for start in candidates}
    best = max(hits.values(), default=0)
    winners = sorted(start for start, count in hits.items() if count == best)
    if len(winners) > 1:
        raise ModelFileError(
            f"{source} holds {len(winners)} encoders that fit equally well, named "
            f"{', '.join(repr(w) for w in winners)}; pass prefix= (model.weights_prefix) to choose"
        )
    return winners[0] if winners else ""


def _require_coverage(report: WeightReport, encoder: Encoder, first: Sequence[str]) -> None:
    needed = [name for name in report.missing if name in first or name.endswith(TOKENS)]
    if report.coverage >= MIN_COVERAGE and not report.misshapen and not needed:
        return
    lacking = [
        f"; {len(names)} {what}: {first_five(names)}"
        for what, names in (
            ("missing", report.missing),
            ("of another shape", report.misshapen),
            ("in the file and not used", report.unused),
        )
        if names
    ]
    raise ModelFileError(
        f"{report.source} fills {report.matched} of {report.total} tensors of encoder "
        f"{encoder.name!r}; at least {MIN_COVERAGE:.0%} must be there, among them what reads the "
        f"image, and none of another shape{''.join(lacking)}. Set model.encoder to the network "
        "these weights belong to, and model.weights_bands to the bands it was trained on"
        f"{WITHOUT_CLASS if needed and needed[0].endswith('cls_token') else ''}"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _own_name(key: str) -> str:
    """Name of an encoder's tensor as a classifier has it, without the wrapper timm puts on ViT."""
    return _flat(key).removeprefix("model_")


def _flat(key: str) -> str:
    return key.replace(".", "_")

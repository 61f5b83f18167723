"""Coarse-to-fine: a second network looks again at windows where small objects are, or may be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wholescene.errors import ConfigError, InputError
from wholescene.labels import IGNORE_INDEX
from wholescene.models.decoders import Decoder
from wholescene.models.encoder import Encoder
from wholescene.models.refine import RefineSettings
from wholescene.models.segmenter import Segmenter
from wholescene.models.spec import Architecture, ClassSpec, ModelSpec
from wholescene.models.windows import Place, choose_windows, cut_windows, window_sums

__all__ = ["RefinedSegmenter", "fine_spec", "small_classes"]

COARSE = ("encoder", "interaction", "decoder", "head", "auxiliary")
"""Parts of the coarse network."""


class RefinedSegmenter(Segmenter):
    """A trained segmenter that stays as it is, and a fine network that corrects its small classes.

    Windows in which the coarse network finds a small class are given to the fine network, whose
    verdict is added to the coarse logits of the small classes there. Without such a window the
    result is that of the coarse network, bit for bit.

    Source:
        C2FNet (PaddleSeg, contrib/RSSegBenchmark, 2022), made general: any classes, any size, a
        learned fusion, context around windows, training on objects that were missed.

    Args:
        spec: Description, with ``architecture.refine``.
        encoder: Of the coarse network.
        decoder: Of the coarse network.
        fine: The fine network, built from ``fine_spec(spec)``.
    """

    def __init__(
        self, spec: ModelSpec, encoder: Encoder, decoder: Decoder, fine: Segmenter
    ) -> None:
        super().__init__(spec, encoder, decoder)
        self.settings, self.small = _settings(spec), small_classes(spec)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.fine = fine
        learned = self.settings.fusion == "learned"
        self.scale = nn.Parameter(torch.full((len(self.small),), 0.5), requires_grad=learned)
        self.bias = nn.Parameter(torch.zeros(len(self.small)), requires_grad=learned)

    @property
    def coarse(self) -> Segmenter:
        """The coarse network alone; shares its modules."""
        made = self.spec.architecture.model_copy(update={"refine": None})
        spec = self.spec.model_copy(update={"architecture": made})
        alone = Segmenter.__new__(Segmenter)
        nn.Module.__init__(alone)
        alone.spec = spec
        for name in COARSE:
            setattr(alone, name, getattr(self, name))
        return alone.eval()

    def train(self, mode: bool = True) -> RefinedSegmenter:
        """Switch the fine network; the coarse one stays in evaluation mode."""
        super().train(mode)
        for name in COARSE:
            part = getattr(self, name)
            if part is not None:
                part.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Predict; as :meth:`Segmenter.forward`."""
        return self.refine(image, super().forward(image))

    def refine(self, image: Tensor, coarse: Tensor, context: tuple[int, int] = (0, 0)) -> Tensor:
        """Correct coarse logits, window by window.

        Args:
            image: (B, C, above + H + below, W).
            coarse: Logits (B, K, H, W); their upper left corner is that of a window.
            context: Rows of the image above and below.

        Returns:
            Logits (B, K, H, W).
        """
        places = self._active(coarse)
        if not places:
            return coarse
        refined = coarse.clone()
        for some in _in_batches(places, self.settings.batch):
            fine = self._fine_logits(image, some, context)
            for place, logits in zip(some, fine, strict=True):
                index, rows, cols = place.inside(coarse.shape[-2], coarse.shape[-1])
                height, width = rows.stop - rows.start, cols.stop - cols.start
                part = logits[:, :height, :width]
                target = refined[index, :, rows, cols]
                target[list(self.small)] += self._added(part[None])[0].to(target.dtype)
        return refined

    def forward_train(self, image: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Losses of the fine network and of the fusion on chosen windows.

        Args:
            image: (B, C, H, W), at least as large as a window.
            target: Class indices (B, H, W).

        Raises:
            InputError: If there is no target, or the image is smaller than a window.
        """
        if target is None:
            raise InputError("a refiner trains on labels; pass target")
        with torch.no_grad():
            coarse = super().forward(image)
        places = self._training_places(coarse, target)
        labels = cut_windows(target[:, None], places, self.settings.window_px, fill=IGNORE_INDEX)
        labels = labels[:, 0]
        fine = self._fine_logits(image, places)
        losses = {"loss_fine": _cross_entropy(fine, self._fine_labels(labels))}
        if self.settings.fusion == "learned":
            logits = cut_windows(coarse, places, self.settings.window_px)
            small = list(self.small)
            fused = logits.index_add(
                1, torch.tensor(small, device=logits.device), self._added(fine)
            )
            losses["loss_fused"] = _cross_entropy(fused, labels)
        return losses

    def _added(self, fine: Tensor) -> Tensor:
        """What fine logits (N, 1 + classes, h, w) add to each small class, (N, small, h, w)."""
        if self.settings.fusion == "published":
            other, *rest = fine.softmax(1).unbind(1)
            del other
            shares = torch.stack(rest, 1)
            return shares.expand(-1, len(self.small), -1, -1)
        odds = fine[:, 1:] - fine[:, :1]
        return self.scale[:, None, None] * odds + self.bias[:, None, None]

    def _fine_logits(
        self, image: Tensor, places: list[Place], context: tuple[int, int] = (0, 0)
    ) -> Tensor:
        margin, side = self.settings.margin_px, self.settings.window_px
        crops = cut_windows(image, places, side, margin=margin, context=context)
        logits = cast(Tensor, self.fine(crops))
        return logits[..., margin : margin + side, margin : margin + side]

    def _active(self, coarse: Tensor) -> list[Place]:
        """Windows in which the coarse network finds a small class."""
        side = self.settings.window_px
        found = window_sums(self._is_small(coarse.argmax(1)), side, side)
        return [Place(int(b), int(y) * side, int(x) * side, side) for b, y, x in found.nonzero()]

    def _training_places(self, coarse: Tensor, target: Tensor) -> list[Place]:
        settings = self.settings
        if min(target.shape[-2:]) < settings.window_px:
            raise InputError(
                f"patches of {tuple(target.shape[-2:])} px are smaller than the refiner's windows; "
                f"raise data.patch_px to {settings.window_px} or more, or lower "
                "model.refine.window_px"
            )
        return choose_windows(
            self._is_small(coarse.argmax(1)),
            self._is_small(target),
            side=settings.window_px,
            stride=settings.stride_px,
            budget=settings.budget,
            empty_share=settings.empty_share,
            faithful=settings.faithful,
        )

    def _is_small(self, indices: Tensor) -> Tensor:
        return torch.isin(indices, torch.tensor(self.small, device=indices.device))

    def _fine_labels(self, labels: Tensor) -> Tensor:
        """Class indices of the fine network."""
        table = torch.zeros(len(self.spec.classes) + 1, dtype=torch.int64, device=labels.device)
        numbers = range(1, len(self.small) + 1) if self.settings.per_class else repeat(1)
        for index, number in zip(self.small, numbers, strict=False):
            table[index] = number
        table[-1] = 0 if self.settings.faithful else IGNORE_INDEX
        return table[labels]


def small_classes(spec: ModelSpec) -> tuple[int, ...]:
    """Indices of the small classes of a refined network.

    Raises:
        ConfigError: If a name is no class, or every class is small.
    """
    settings, names = _settings(spec), [c.name for c in spec.classes]
    unknown = [name for name in settings.classes if name not in names]
    if unknown or len(settings.classes) >= len(names):
        what = f"{unknown[0]!r} is no class" if unknown else "every class is small"
        raise ConfigError(
            f"model.refine.classes: {what}; the classes are {', '.join(names)}, of which some are "
            "small"
        )
    return tuple(names.index(name) for name in settings.classes)


def fine_spec(spec: ModelSpec) -> ModelSpec:
    """Description of the fine network: everything but small objects is its class 0."""
    settings = _settings(spec)
    chosen = [spec.classes[i] for i in small_classes(spec)]
    names = [c.name for c in chosen] if settings.per_class else ["small object"]
    classes = [ClassSpec(id=0, name="everything else", color=(0, 0, 0))]
    classes += [
        ClassSpec(id=i, name=name, color=chosen[i - 1].color)
        for i, name in enumerate(names, start=1)
    ]
    made = Architecture(
        encoder=settings.encoder,
        decoder=settings.decoder,
        encoder_options=settings.encoder_options,
        decoder_options=settings.decoder_options,
    )
    return spec.model_copy(update={"architecture": made, "classes": tuple(classes)})


def _settings(spec: ModelSpec) -> RefineSettings:
    assert spec.architecture.refine is not None
    return spec.architecture.refine


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled pixels; 0 where there are none."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


def _in_batches(places: list[Place], size: int) -> Iterator[list[Place]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]

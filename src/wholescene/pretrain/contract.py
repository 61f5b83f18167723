"""The sections of a pre-training configuration."""

from __future__ import annotations

from typing import Protocol

from wholescene.pretrain.settings import MethodSettings, PoolSettings, ProbeSettings, ViewSettings
from wholescene.train.contract import LearnSettings

__all__ = ["PretrainSettings"]


class PretrainSettings(LearnSettings, Protocol):
    """What :func:`wholescene.pretrain.pretrain` reads; ``PretrainConfig`` is one."""

    @property
    def data(self) -> PoolSettings:
        """Scenes and windows."""
        ...

    @property
    def views(self) -> ViewSettings:
        """Views of a window."""
        ...

    @property
    def method(self) -> MethodSettings:
        """What is learned."""
        ...

    @property
    def probe(self) -> ProbeSettings | None:
        """Labelled windows that show progress."""
        ...

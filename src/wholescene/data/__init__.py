"""From whole scenes to batches of patches."""

from wholescene.data.augment import Augment, SpectralChange
from wholescene.data.module import SceneDataModule
from wholescene.data.patches import Batch, PatchBatches, PatchDataset, Sample
from wholescene.data.settings import ColorDistortion, DataSettings
from wholescene.data.stream import SampleStream

__all__ = [
    "Augment",
    "Batch",
    "ColorDistortion",
    "DataSettings",
    "PatchBatches",
    "PatchDataset",
    "Sample",
    "SampleStream",
    "SceneDataModule",
    "SpectralChange",
]

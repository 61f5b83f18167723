"""Validation on whole scenes, through the engine that maps them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np

from wholescene.data import SceneDataModule
from wholescene.datasets import SceneRecord
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.geometry import Window
from wholescene.labels import IGNORE_INDEX
from wholescene.prediction.engine import Forward
from wholescene.prediction.options import Options
from wholescene.prediction.views import Views
from wholescene.raster.read import SceneReader
from wholescene.train.interrupt import StopRequest
from wholescene.train.module import SegmentationModule
from wholescene.train.progress import TrainProgress, Validating
from wholescene.train.validation import Validation, add_over_ranks, is_stopping

__all__ = ["SceneValidator"]


class SceneValidator:
    """Maps whole scenes in overlapping, blended windows, and scores every pixel once.

    Nothing is written: rows are scored as the engine finishes them. A labelled pixel without image
    data counts as wrong, as it does when a map file is scored.

    Args:
        data: Names the scenes of this rank, and opens their labels.
        precision: Arithmetic of the network.
        progress: Receives messages.
    """

    def __init__(
        self, data: SceneDataModule, *, precision: str, progress: TrainProgress | None = None
    ) -> None:
        self._data, self._progress = data, progress
        self._options = Options(engine="windowed", precision=precision)

    def validate(self, module: SegmentationModule, stop: StopRequest) -> Validation | None:
        """Score every scene of this rank."""
        spec = module.model.spec
        table = ConfusionTable(spec.class_table)
        module.eval()
        for scene in self._scenes():
            if stop.is_set:
                break
            with SceneReader(scene.files, spec.sources) as reader:
                self._score(module, scene, reader, table, stop)
        if is_stopping(module, stop):
            return None
        return Validation(table=add_over_ranks(module, table))

    def _scenes(self) -> Iterable[SceneRecord]:
        loader: Iterable[Any] = self._data.val_dataloader()
        places = (int(item["scene"]) for item in loader)
        return (self._data.val_scenes[place] for place in places if place >= 0)

    def _score(
        self,
        module: SegmentationModule,
        scene: SceneRecord,
        reader: SceneReader,
        table: ConfusionTable,
        stop: StopRequest,
    ) -> None:
        size = reader.size
        forward = Forward(
            module.evaluated, module.device, self._options.precision, Views.parse(None)
        )
        engine = self._options.build_engine(size)
        target = self._data.settings.target
        with (
            self._data.dataset.label_reader(scene, target) as labels,
            closing(engine.bands(reader, forward, 0)) as bands,
        ):
            for band in bands:
                if stop.is_set:
                    return
                rows = band.probabilities.shape[1]
                window = Window(row_off=band.row_off, col_off=0, height=rows, width=size.width)
                guess = band.probabilities.max(0).indices.numpy()
                guess = np.where(reader.valid(window), guess, IGNORE_INDEX)
                table.add(labels.read(window), guess)
                if self._progress is not None:
                    done, total = window.row_stop * size.width, size.area
                    self._progress(Validating(step=module.global_step, done=done, total=total))

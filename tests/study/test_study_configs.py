"""Every study in ``configs/studies/`` loads, and its rows fit each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from wholescene.config import load_config, load_pretrain_config, load_study_config
from wholescene.datasets import Dataset, DatasetSpec
from wholescene.models import ClassSpec, ModelSpec, build_segmenter
from wholescene.pretrain import build_method
from wholescene.raster import BandSpec, SourceSpec
from wholescene.study.few_labels_cells import find_rows

FOLDER = Path(__file__).parents[2] / "configs/studies"
STUDIES = sorted(FOLDER.glob("*-few-labels.yaml"))
BANDS = tuple(BandSpec(name=f"b{number}") for number in range(3))


def test_there_are_studies() -> None:
    assert STUDIES
    assert load_config(FOLDER / "finetune.yaml").name == "finetune"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_is_legal_and_its_networks_can_be_built(path: Path) -> None:
    study = load_study_config(path)
    assert study.name == path.stem
    assert f"wholescene study few-labels configs/studies/{path.name}" in path.read_text()
    spec = DatasetSpec(name="d", targets=(), sources=(SourceSpec(bands=BANDS),))
    rows = find_rows(study, Dataset(spec=spec, root=study.dataset.parent, scenes=()))
    baselines = {row.name for row in rows if row.baseline is None}
    assert baselines == {"random-resnet18", "random-vit_tiny_patch16_224"}
    for row in rows:
        networks = [
            build_segmenter(
                ModelSpec(
                    architecture=architecture,
                    sources=spec.sources,
                    mean=(0.0,) * 3,
                    std=(1.0,) * 3,
                    classes=(ClassSpec(id=0, name="none", color=(0, 0, 0)),),
                )
            )
            for architecture in (
                row.finetune.model.architecture,
                *([row.pretraining.model.architecture] if row.pretraining else []),
            )
        ]
        assert row.finetune.data.patch_px % networks[0].stride == 0
        if row.pretraining is not None:
            method = row.pretraining.method
            side = row.pretraining.views.view_px
            built = build_method(method.name, networks[1], method.options, view_px=side)
            assert row.part == "encoder" or built.trained == "all"
            own, source = (network.encoder.state_dict() for network in networks)
            assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in source.items()}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_budgets_are_equal(path: Path) -> None:
    study = load_study_config(path)
    seen = set()
    for method in study.methods.values():
        config = load_pretrain_config(method.pretrain, study.pretrain_changes)
        seen.add((config.train.steps, config.data.batch_size, config.views.view_px))
    assert len(seen) == 1

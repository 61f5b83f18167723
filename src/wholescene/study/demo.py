"""The whole path on synthetic scenes: make, train, map, score, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wholescene.config import RunConfig
from wholescene.data import DataSettings
from wholescene.datasets import load_dataset, store_statistics, synthesize
from wholescene.errors import OutputError
from wholescene.evaluate import build_report
from wholescene.losses import LossSettings
from wholescene.models import ModelSettings
from wholescene.progress import Progress
from wholescene.study.evaluation import evaluate_split
from wholescene.study.scoring import describe_scores
from wholescene.study.training import narrate
from wholescene.train import EmaSettings, OptimSettings, TrainSettings, fit

__all__ = ["DemoResult", "run_demo"]

SCENES = 6
SIDE_PX = 1024
STEPS = 300

Bar = Callable[[str, str], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo wrote and reached on the held-out scene.

    Args:
        out: Folder of everything.
        label_map: The georeferenced map of the held-out scene.
        report: HTML page of the run and its evaluation.
        overall_accuracy: Share of labelled pixels that are right.
        majority_share: Overall accuracy of the best constant map.
        miou: Mean intersection over union.
        per_class_iou: The same for each class.
        seconds: Time of the whole demo.
    """

    out: Path
    label_map: Path
    report: Path
    overall_accuracy: float
    majority_share: float
    miou: float
    per_class_iou: dict[str, float | None]
    seconds: float
    table: str

    def facts(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        plain = asdict(self)
        del plain["table"]
        return {k: str(v) if isinstance(v, Path) else v for k, v in plain.items()}

    def describe(self) -> str:
        """A text to print."""
        return "\n".join(
            (
                self.table,
                f"majority share {100 * self.majority_share:.2f} % (a map of one class)",
                f"map     {self.label_map}",
                f"report  {self.report}",
                f"done in {self.seconds:.0f} s",
            )
        )


def run_demo(out: Path, *, say: Callable[[str], None], bar: Bar) -> DemoResult:
    """Make scenes, train a small U-Net, map and score a held-out scene of another sensor gain.

    Args:
        out: Folder; a demo that is already there is made anew from its scenes.
        say: Receives one line per event.
        bar: Opens a progress display, given a title and a unit.

    Raises:
        OutputError: If ``out`` holds something that is no demo.
    """
    start = time.monotonic()
    run, evaluation = _fresh(out, "run"), _fresh(out, "evaluation")
    with bar("scenes", "px") as progress:
        dataset = synthesize(
            out / "scenes", scenes=SCENES, height=SIDE_PX, width=SIDE_PX, progress=progress
        )
    store_statistics(load_dataset(dataset))
    with bar("train", "steps") as progress:
        result = fit(_config(dataset), dataset, run, progress=narrate(say, progress))
    with bar("map and score", "px") as progress:
        document, _ = evaluate_split(
            dataset, result.model, evaluation, boundary_px=3, progress=progress
        )
    report = build_report(out, out / "report.html")
    scene = load_dataset(dataset).split("test")[0]
    support = [row["support"] for row in document["per_class"].values()]
    return DemoResult(
        out=out,
        label_map=evaluation / "maps" / f"{scene.id}.tif",
        report=report,
        overall_accuracy=document["overall_accuracy"],
        majority_share=max(support) / sum(support),
        miou=document["miou"],
        per_class_iou={name: row["iou"] for name, row in document["per_class"].items()},
        seconds=time.monotonic() - start,
        table=describe_scores(document),
    )


def _config(dataset: Path) -> RunConfig:
    """Small enough for two CPU cores and two minutes."""
    return RunConfig(
        name="demo",
        data=DataSettings(
            dataset=dataset,
            patch_px=128,
            batch_size=8,
            sampling="balanced",
            balance_power=0.5,
            num_workers=1,
            gain=0.3,
            band_gain=0.1,
            brightness=0.2,
            contrast=0.2,
            noise=0.05,
        ),
        model=ModelSettings(
            encoder="resnet18",
            decoder="unet",
            decoder_options={"channels": (128, 64, 32, 16, 16)},
        ),
        loss=LossSettings(
            terms={"cross_entropy": 1.0, "dice": 0.5}, class_weights="inverse_sqrt_frequency"
        ),
        optim=OptimSettings(lr=2e-3, warmup_steps=20, schedule="cosine"),
        train=TrainSettings(
            steps=STEPS, validate_every=150, ema=EmaSettings(decay=0.98), tensorboard=False
        ),
    )


def _fresh(out: Path, name: str) -> Path:
    """A sub-folder that is not there yet; what an earlier demo left moves out of the way."""
    import shutil

    folder = out / name
    marker = out / "scenes" / "dataset.yaml"
    if out.exists() and any(out.iterdir()) and not marker.exists():
        raise OutputError(f"{out} holds files that are no demo; give --out an empty folder")
    if folder.exists():
        shutil.rmtree(folder)
    return folder

"""``wholescene train``."""

from __future__ import annotations

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import (
    AsJson,
    Debug,
    DryRun,
    Overrides,
    Resume,
    RunFile,
    RunFolder,
)

__all__ = ["train"]


def train(
    config: RunFile,
    overrides: Overrides = None,
    out: RunFolder = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a model; writes model, checkpoints, metrics and the resolved config.

    Example: wholescene train configs/synthetic-unet.yaml --set train.steps=500
    """
    from wholescene.study.training import describe_run, train_run

    if dry_run:
        facts, text = describe_run(config, overrides or [])
        finish(facts, text, as_json=as_json)
        return
    with progress("train", "steps") as update:
        result = train_run(
            config, overrides or [], out=out, resume=resume, say=note, progress=update
        )
    best = "-" if result.best_miou is None else f"{100 * result.best_miou:.2f} %"
    text = f"{result.model}: step {result.exported_step}, val mIoU {best}"
    finish(result.facts(), text, as_json=as_json)

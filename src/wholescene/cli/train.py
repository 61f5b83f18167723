"""``wholescene train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import AsJson, Debug, Resume

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. optim.lr=1e-3."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; by default runs/<name of the config>.")
    ] = None,
    resume: Resume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and stop.")
    ] = False,
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

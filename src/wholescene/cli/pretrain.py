"""``wholescene pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wholescene.cli.console import finish, note, progress
from wholescene.cli.options import AsJson, Debug, Resume

__all__ = ["pretrain"]


def pretrain(
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
    """Learn from scenes without labels; writes a model that 'train' starts from.

    Example: wholescene pretrain configs/pretrain/synthetic-glcnet.yaml --set train.steps=500
    """
    from wholescene.study.pretraining import describe_pretraining, pretrain_run

    if dry_run:
        facts, text = describe_pretraining(config, overrides or [])
        finish(facts, text, as_json=as_json)
        return
    with progress("pretrain", "steps") as update:
        result = pretrain_run(
            config, overrides or [], out=out, resume=resume, say=note, progress=update
        )
    text = (
        f"{result.model}: {result.trained} pre-trained; use it with train.init_from = {result.out}"
    )
    finish(result.facts(), text, as_json=as_json)

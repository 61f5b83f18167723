"""``wholescene pretrain``."""

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

__all__ = ["pretrain"]


def pretrain(
    config: RunFile,
    overrides: Overrides = None,
    out: RunFolder = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Learn from scenes without labels; writes a model that 'train' starts from.

    Example: wholescene pretrain configs/pretrain/synthetic-glcnet.yaml --set train.steps=500
    """
    from wholescene.study.training import describe_pretraining, pretrain_run

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

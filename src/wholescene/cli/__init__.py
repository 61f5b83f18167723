"""The ``wholescene`` command: one file per command, wiring only."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from wholescene import __version__
from wholescene.cli import (
    benchmark,
    data,
    demo,
    evaluate,
    info,
    models,
    plan,
    predict,
    pretrain,
    report,
    score,
    study,
    train,
    vectorize,
)
from wholescene.cli.console import guard

__all__ = ["app", "main"]

app = typer.Typer(
    name="wholescene",
    help="Semantic segmentation of whole remote-sensing scenes.",
    epilog="Start with: wholescene demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"wholescene {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version)
    ] = False,
) -> None:
    """Semantic segmentation of whole remote-sensing scenes."""


for _name, _command in (
    ("demo", demo.demo),
    ("info", info.info),
    ("train", train.train),
    ("pretrain", pretrain.pretrain),
    ("predict", predict.predict),
    ("plan", plan.plan),
    ("evaluate", evaluate.evaluate),
    ("score", score.score),
    ("vectorize", vectorize.vectorize),
    ("report", report.report),
):
    app.command(_name)(guard(_command))
app.command("benchmark", cls=benchmark.ListsCommand)(guard(benchmark.benchmark))
app.add_typer(study.app, name="study", help="Studies of many runs.")
app.add_typer(data.app, name="data", help="Make, check and describe datasets.")
app.add_typer(models.app, name="models", help="List encoders and decoders; show a model.")


def main() -> None:
    """Run the command line."""
    # Before torch loads: threads that wait by spinning take the processor from everyone else on a
    # busy machine, and made training there 3.5 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()

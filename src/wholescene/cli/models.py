"""``wholescene models``."""

from __future__ import annotations

from typing import Annotated

import typer

from wholescene.cli.console import finish, guard
from wholescene.cli.options import AsJson, Debug

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@guard
def list_models(
    pattern: Annotated[str, typer.Argument(help="Encoder name with wildcards.")] = "*",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List encoders and decoders.

    Example: wholescene models list 'resnet*'
    """
    from wholescene.models import list_decoders, list_encoders

    facts = {"decoders": list(list_decoders()), "encoders": list(list_encoders(pattern))}
    text = f"decoders: {', '.join(facts['decoders'])}\nencoders ({len(facts['encoders'])}):\n"
    finish(facts, text + "\n".join(f"  {name}" for name in facts["encoders"]), as_json=as_json)


@app.command("show")
@guard
def show_model(
    name: Annotated[str, typer.Argument(help="Encoder, or the path of a model.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show an encoder's stages, or what a trained model reads, writes and comes from.

    Example: wholescene models show runs/first/model
    """
    from wholescene.models import show

    facts = show(name)
    finish(facts, "\n".join(f"{key}: {value}" for key, value in facts.items()), as_json=as_json)

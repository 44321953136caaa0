"""What there is to choose from: list."""

from __future__ import annotations

from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.output import print_table

app = typer.Typer()


@app.command("list", epilog="Example: mmtune list families")
def list_topic(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="families, datasets, spaces, samplers, schedulers or metrics",
            autocompletion=completion.topics,
        ),
    ],
) -> None:
    """What there is to choose from."""
    from mmtune.cli.listing import LISTS
    from trainables.messages import unknown

    if what not in LISTS:
        raise ValueError(unknown(what, tuple(LISTS)))
    print_table(*LISTS[what]())

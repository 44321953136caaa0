"""What there is to choose from, and what a search file can say: list, schema."""

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
            help="families, datasets, spaces, samplers, schedulers, metrics, inspections, figures, trackers or keys",
            autocompletion=completion.topics,
        ),
    ],
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY", help="Of keys: a family, its own as well.", autocompletion=completion.families
        ),
    ] = None,
) -> None:
    """What there is to choose from; of keys: default, range and what each is."""
    from mmtune.cli.listing import LISTS, keys_of
    from trainables.messages import unknown

    if what not in LISTS:
        raise ValueError(unknown(what, tuple(LISTS)))
    if family is not None and what != "keys":
        raise ValueError(f"'{family}' means nothing after {what}; `mmtune list keys {family}` has a family's keys")
    print_table(*(LISTS[what]() if family is None else keys_of(family)))


@app.command("schema", epilog="Example: mmtune schema > schema.json")
def schema() -> None:
    """Prints the JSON Schema of a search file: editors complete and check keys by it.

    A search file names it in a comment: # yaml-language-server: $schema=PATH
    """
    from mmtune.spec.schema import schema_text

    typer.echo(schema_text(), nl=False)

"""Looking into a trained model: inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.answer import Device
from mmtune.cli.arguments import Model
from mmtune.models.inspections import INSPECTIONS

app = typer.Typer()
_NAMES = "\n\n".join(["What there is:", *(f"{name}: {row.about}." for name, row in INSPECTIONS.items())])


@app.command(
    "inspect",
    help=f"Looks into a model: its features, mistakes, attention, latent space, as CSV files and pictures.\n\n{_NAMES}",
    epilog="Example: mmtune inspect studies/demo-openclipart --what latent,errors",
)
def inspect(
    model: Model,
    what: Annotated[
        str,
        typer.Option(
            "--what", metavar="NAMES", help="With commas between; see below.", autocompletion=completion.inspections
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="train, val, test or all. Looks at test are counted.")] = "val",
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Other data; default: what it was trained on.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Format of other data.", autocompletion=completion.datasets)
    ] = None,
    rows: Annotated[int, typer.Option("--rows", help="At most so many of the split, evenly picked.")] = 1000,
    shown: Annotated[int, typer.Option("--shown", help="So many of them are shown one by one.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn at random.")] = 0,
    format: Annotated[str, typer.Option("--format", help="Of pictures: png or svg.")] = "png",
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Default: inspected/<split> in the model's folder.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Looks into a model; the help has what there is to look at."""
    from mmtune.models.inspecting import inspect_model, lines_of
    from mmtune.models.reference import find_model
    from mmtune.models.testing import told_times

    names = list(dict.fromkeys(name.strip() for name in what.split(",") if name.strip()))
    ref = find_model(model)
    found = inspect_model(
        ref, names, split=split, dataset=dataset, data_dir=data, rows=rows, shown=shown, seed=seed, kind=format,
        out=None if to is None else Path(to).expanduser(), device=device,
    )  # fmt: skip
    for note in found.notes:
        typer.echo(f"note: {note}")
    for name, lines in found.told.items():
        for line in lines:
            typer.echo(f"{name}: {line}")
    for line in lines_of(found.refused):
        typer.echo(line)
    typer.echo(f"{ref.name}: {found.num_rows:,} rows; written: {found.folder}: {', '.join(found.files)}")
    if found.looks is not None:
        typer.echo(f"{ref.name}: this test split was looked at {told_times(found.looks)}")

"""A model to take elsewhere: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.arguments import Model

app = typer.Typer()


@app.command("export", epilog="Example: mmtune export studies/demo-openclipart --to exported")
def export(
    model: Model,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="A new folder, or an empty one.")],
    format: Annotated[
        str, typer.Option("--format", help="folder: for mmtune; onnx: for onnxruntime (pip install 'mmtune[onnx]').")
    ] = "folder",
) -> None:
    """Writes a folder that loads on another machine: without its data, its encoders installed, or a network."""
    from mmtune.models.export import export_model
    from mmtune.models.reference import find_model

    ref = find_model(model)
    done = export_model(ref, Path(to).expanduser(), format=format)
    for note in done.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{ref.name}: {done.num_files} files, {done.num_bytes / 2**20:,.1f} MiB; written: {done.folder}")

"""A trained model on new rows: predict, embed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import Address, Model, Regions
from mmtune.cli.output import print_table, progress_bar

if TYPE_CHECKING:
    from mmtune.models.reference import ModelRef
    from mmtune.models.rows import Written

app = typer.Typer()
_SHOWN = 20  # classes of a single row

New = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="NEW", help="A CSV, TSV, Parquet or JSONL file, or a folder; default: its own data."
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--dataset", metavar="NAME", help="Format of a folder; default: as it was trained.",
                 autocompletion=completion.datasets),
]  # fmt: skip
Split = Annotated[str | None, typer.Option("--split", help="train, val or test of a dataset; default: all rows.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or gpu.")]


@app.command("predict", epilog='Example: mmtune predict studies/demo-openclipart --text "a red rose" --image rose.png')
def predict(
    model: Model,
    data: New = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="A .parquet, .csv or .jsonl. [predictions.parquet]")
    ] = None,
    dataset: Format = None,
    split: Split = None,
    text: Annotated[str | None, typer.Option("--text", help="Of a single row.")] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="FILE", help="Of a single row.")] = None,
    value: Annotated[
        list[str] | None, typer.Option("--value", metavar="COLUMN=VALUE", help="Of a single row; may be repeated.")
    ] = None,
    regions: Regions = None,
    device: Device = "auto",
    address: Address = None,
) -> None:
    """Predicts new rows, labelled or not; --text, --image and --value give a single one."""
    from mmtune.models.predict import predict_data, predict_one, single_row

    ref = _find(model, regions)
    if text is None and image is None and not value:
        with progress_bar() as progress:
            written = predict_data(
                ref, data, out=Path(out or "predictions.parquet"), dataset=dataset, split=split, device=device,
                address=address, progress=progress,
            )  # fmt: skip
        _say(written)
        return
    for option, given in (("--data", data), ("--out", out), ("--dataset", dataset), ("--split", split)):
        if given is not None:
            raise ValueError(f"{option}: does not go with a single row of --text, --image or --value")
    from trainables.trained import load_trained

    trained = load_trained(ref.folder, device=device, regions=ref.regions)
    said = predict_one(trained, single_row(trained, text=text, image=image, values=value or ()))
    if trained.task.kind == "regression":
        typer.echo(f"{said[0][0]} {said[0][1]:g}")
        return
    print_table(["class", "probability"], [[name, f"{chance:.4f}"] for name, chance in said[:_SHOWN]])
    if len(said) > _SHOWN:
        typer.echo(f"and {len(said) - _SHOWN:,} classes more")


@app.command("embed", epilog="Example: mmtune embed studies/demo-openclipart --out embeddings.parquet")
def embed(
    model: Model,
    data: New = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="A .parquet, .csv or .jsonl.")] = (
        "embeddings.parquet"
    ),
    dataset: Format = None,
    split: Split = None,
    regions: Regions = None,
    device: Device = "auto",
    address: Address = None,
) -> None:
    """Writes what the model makes of rows before its last layer: features of each modality, and joint ones."""
    from mmtune.models.embed import embed_data

    with progress_bar() as progress:
        written = embed_data(
            _find(model, regions), data, out=Path(out), dataset=dataset, split=split, device=device, address=address,
            progress=progress,
        )  # fmt: skip
    _say(written)


def _find(model: str, regions: str | None) -> ModelRef:
    """The model; threads will sleep while they wait: on a busy machine those that spin cost five times the time."""
    from mmtune.models.reference import find_model
    from mmtune.slots.cluster import ENVIRONMENT

    os.environ.setdefault("OMP_WAIT_POLICY", ENVIRONMENT["OMP_WAIT_POLICY"])  # read when torch is imported
    return replace(find_model(model), regions=regions)


def _say(written: Written) -> None:
    for note in written.notes:
        typer.echo(f"note: {note}")
    if written.num_errors:
        typer.echo(
            f"{written.num_errors:,} of {written.num_rows:,} rows could not be used (column error), the first: "
            f"{written.first_error}"
        )
    typer.echo(
        f"written: {written.path}, {written.num_rows:,} rows: {', '.join(list(written.columns)[:8])}"
        f"{', ...' if len(written.columns) > 8 else ''}"
    )

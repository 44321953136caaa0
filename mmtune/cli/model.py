"""One configuration: train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import Data

app = typer.Typer()


@app.command("train", epilog="Example: mmtune train best.yaml --out trained/best")
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A best.yaml.", autocompletion=completion.yaml_files)],
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Default: trained/<name of CONFIG>.")] = None,
    data: Data = None,
) -> None:
    """Trains one config, then tests its best epoch once (test split)."""
    from mmtune.slots.cluster import ENVIRONMENT

    for key in ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"):  # read when torch is imported, below
        os.environ.setdefault(key, ENVIRONMENT[key])
    from mmtune.spec.configfile import load_config
    from mmtune.study.plan import data_notes
    from mmtune.study.single import train_single

    path = Path(config)
    target = Path(out) if out is not None else Path("trained") / path.stem
    chosen = load_config(path, data_dir=data)
    for note in data_notes(chosen.dataset, chosen.data_dir, chosen.target):
        typer.echo(f"note: {note}")
    result = train_single(chosen, folder=target, say=typer.echo)
    for key, value in result.items():
        typer.echo(f"{key} {value:.4f}")
    typer.echo(f"written: {target}")

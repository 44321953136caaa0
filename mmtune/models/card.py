"""The model card of an exported folder: README.md with the front matter of Hugging Face's model cards.

What is written was measured or is read from files; what is not known says so. Nothing is looked up on a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmtune import records
from mmtune.models.licences import dataset_licence, encoder_licence, is_of_hub, licence_of
from mmtune.models.reference import ModelRef

if TYPE_CHECKING:
    from trainables.trained import Trained

UNKNOWN = "unknown"
_TASKS: dict[tuple[str, ...], str] = {  # Hugging Face's name of the task, of a model that reads one modality
    ("text",): "text-classification",
    ("image",): "image-classification",
}
_CLASSES = 100  # that are named
_EXAMPLES = {"text": "a few words", "image": "picture.png"}


def card(ref: ModelRef, trained: Trained, *, name: str, use: str) -> str:
    """The text of the card.

    Args:
        ref: what was exported.
        trained: the same, loaded.
        name: of the model.
        use: how its format is used, in Markdown.
    """
    parts = {
        "What it is": _what(trained),
        "Use": use,
        "Data": _data(trained),
        "Metrics": _metrics(ref, trained),
        "Cost": _cost(ref, trained),
        "Limits": _limits(trained),
        "Licences": _licences(trained),
    }
    sections = [f"# {name}", *(f"## {title}\n\n{text}" for title, text in parts.items())]
    return f"---\n{yaml.safe_dump(_front(trained, name), sort_keys=False)}---\n\n" + "\n\n".join(sections) + "\n"


def folder_use(trained: Trained) -> str:
    """How an exported folder is used."""
    columns, row = trained.facts.columns, {}
    row |= dict.fromkeys(columns.text, _EXAMPLES["text"])
    row |= {} if columns.image is None else {columns.image: _EXAMPLES["image"]}
    row |= dict.fromkeys(columns.numeric, 1.0) | dict.fromkeys(columns.categorical, "a value")
    options, needs = "", ""
    if trained.regions is not None:
        options = " --regions FILE"
        needs = (
            f" It reads regions of an object detector, {trained.regions.width} numbers each, which do not go along: "
            "FILE has those of the new rows, as the same detector finds them."
        )
    return (
        "Neither its data nor its encoders need be installed, and it asks for no network."
        f"{needs} With DIR this folder:\n\n"
        f"```bash\npip install mmtune\nmmtune test DIR --data OTHER{options}      # labelled rows\n"
        f"mmtune predict DIR --data NEW{options}     # rows without labels\n```\n\n"
        f'```python\nimport mmtune\n\nmodel = mmtune.load_model("DIR")\nprint(model.predict([{row!r}]))\n```'
    )


def _front(trained: Trained, name: str) -> dict[str, Any]:
    facts, reads = trained.facts, trained.modalities
    task = _TASKS.get(reads, "tabular-regression" if trained.task.kind == "regression" else "multimodal-classification")
    values = _values(trained)
    result = {
        "task": {"type": task},
        "dataset": {"name": facts.dataset, "type": facts.dataset, "split": "validation"},
        "metrics": [{"type": metric, "value": value} for metric, value in values.items()],
    }
    hubs = sorted({used.name for used in facts.encoders.values() if is_of_hub(used.name)})
    return {
        "license": UNKNOWN,
        "library_name": "mmtune",
        **({"pipeline_tag": _TASKS[reads]} if reads in _TASKS else {}),
        **({"base_model": hubs} if hubs else {}),
        "tags": ["mmtune", trained.config.family, trained.task.kind, *reads],
        "metrics": list(values),
        "model-index": [{"name": name, "results": [result]}],
    }


def _values(trained: Trained) -> dict[str, float]:
    """The metrics of its best epoch that the task has, without prefix."""
    from trainables.metrics import metrics_of

    names = [row.name for row in metrics_of(trained.task)]
    return {name: trained.report[f"val_{name}"] for name in names if f"val_{name}" in trained.report}


def _what(trained: Trained) -> str:
    config, facts, task = trained.config, trained.facts, trained.task
    encoders = [
        f"{modality}: `{used.name}`{' (locked)' if used.is_locked else ''}" for modality, used in facts.encoders.items()
    ]
    answers = f"the number `{facts.target}`" if task.kind == "regression" else f"{len(task.classes)} classes"
    kinds = {"multiclass": "one class a row", "multilabel": "any number of classes a row", "regression": "a number"}
    return _list(
        f"family `{config.family}` of mmtune, reads {', '.join(trained.modalities)}",
        f"predicts {answers} ({kinds[task.kind]})",
        *(["encoders: " + "; ".join(encoders)] if encoders else []),
        f"trained with {', '.join(f'{name} {version}' for name, version in facts.versions.items())}",
        f"best epoch {trained.epoch} of at most {config.epochs}, chosen by `{config.objective}`; seed {config.seed}",
    )


def _data(trained: Trained) -> str:
    facts, classes = trained.facts, trained.task.classes
    rows = ", ".join(f"{split} {number:,}" for split, number in facts.rows.items())
    lines = [f"dataset `{facts.dataset}`, target `{facts.target}`", f"labelled rows: {rows}"]
    lines.append(f"fingerprint of its files: `{facts.fingerprint}`")
    more = f" and {len(classes) - _CLASSES:,} more (model.json)" if len(classes) > _CLASSES else ""
    return _list(*lines, *([f"classes: {', '.join(classes[:_CLASSES])}{more}"] if classes else []))


def _metrics(ref: ModelRef, trained: Trained) -> str:
    values, found, number = _values(trained), *_intervals(ref.folder, trained)
    rows = [
        (name, f"{value:.4f}", "" if name not in found else f"{found[name][0]:.4f} to {found[name][1]:.4f}")
        for name, value in values.items()
    ]
    parts = ["On the validation split, by which it was chosen: a little too good for rows that it never saw.\n"]
    parts.append(_table(("metric", "validation", "95 % interval"), rows))
    if found:
        parts.append(
            f"\nIntervals are about these {number:,} rows, not about training again: Wilson's of accuracies, of the "
            "others the percentile bootstrap over rows (500 draws)."
        )
    return "\n".join([*parts, "", _test_metrics(ref, trained)])


def _intervals(folder: Path, trained: Trained) -> tuple[dict[str, tuple[float, float]], int]:
    """By metric, and of how many rows; none where the predictions of the best epoch are not there."""
    import numpy as np
    import pyarrow.parquet

    from analysis.intervals import intervals

    path = folder / "predictions.parquet"
    if not path.is_file():
        return {}, 0
    table = pyarrow.parquet.read_table(path)
    logits, labels = (np.array(table.column(name).to_pylist()) for name in ("logits", "label"))
    return intervals(logits, labels, trained.task), len(labels)


def _test_metrics(ref: ModelRef, trained: Trained) -> str:
    """Those of `mmtune test`, else of `mmtune train`; and how often the test split was looked at."""
    from analysis.studies import study_cost
    from mmtune.models.testing import WHOLE, looks_at_test, told_times

    tested, trained_and_tested = ref.folder / records.TESTS / "test" / "metrics.json", ref.folder / "test.json"
    if tested.is_file():
        values = records.read_json(tested)["results"][WHOLE]
    elif trained_and_tested.is_file():
        values = {name.removeprefix("test_"): value for name, value in records.read_json(trained_and_tested).items()}
    else:
        return "Its test split was not looked at."
    alone = looks_at_test(ref.folder) + trained_and_tested.is_file()
    looks = alone if ref.study is None else study_cost(ref.study).test_looks
    of = "" if ref.study is None else " by the models of its study"
    rows = [(name, f"{values[name]:.4f}") for name in _values(trained) if name in values]
    return f"The test split was looked at {told_times(looks)}{of}:\n\n" + _table(("metric", "test"), rows)


def _cost(ref: ModelRef, trained: Trained) -> str:
    seconds, row = _spent(ref), trained.report
    device = row.get(records.DEVICE, UNKNOWN)
    lines = [f"training: {seconds:,.0f} device-seconds" if seconds is not None else f"training: {UNKNOWN}"]
    lines[0] += f" ({trained.config.workers} worker(s), {device})"
    for name, text in (
        ("peak_memory_gib", "memory while it trained: {:.2f} GiB"),
        ("num_parameters", "{:,} parameters"),
        ("num_trainable", "{:,} of them trained"),
        ("inference_ms_per_sample", "inference: {:.2f} ms a row, 32 at once"),
        ("inference_ms_single", "inference: {:.2f} ms, one row at once"),
    ):
        if row.get(name) is not None:
            lines.append(text.format(row[name]))
    return _list(*lines)


def _spent(ref: ModelRef) -> float | None:
    """The device-seconds of the trial, or of its training by itself; None where neither is told."""
    if ref.study is not None:
        for row in records.read_trials(records.StudyFolder(ref.study)):
            if row["trial"] == ref.trial:
                return records.parse_cell(row.get("device_seconds", ""))
    reports = records.read_rows(ref.folder / "reports.csv")
    return sum(row.get("device_seconds") or 0.0 for row in reports) if reports else None


def _limits(trained: Trained) -> str:
    from trainables.families import family_module

    config, reads = trained.config, trained.modalities
    can = [name for name in family_module(config.family).droppable(config.model) if name in reads]
    lines = [
        f"does without {' or '.join(can)}, if need be" if can and len(reads) > 1 else "needs all that it reads",
        *([f"of a text the first {config.max_text_len} tokens are read"] if "text" in reads else []),
        *(
            [f"pictures are {config.image_size} x {config.image_size} pixels ({config.image_fit})"]
            if "image" in reads
            else []
        ),
        *(["knows the nodes of its own graph, no others"] if "graph" in reads else []),
        "knows what its training rows show: other languages, styles, classes and cameras were not measured",
    ]
    if trained.task.kind == "multiclass":
        lines.append("always answers with one of its classes, whatever it is given")
    return _list(*lines)


def _licences(trained: Trained) -> str:
    facts = trained.facts
    encoders: Mapping[str, str] = {used.name: encoder_licence(used.name) for used in facts.encoders.values()}
    rows = [
        ("mmtune", licence_of("mmtune")),
        *(encoders.items()),
        (f"dataset {facts.dataset}", dataset_licence(facts.dataset)),
    ]
    return (
        "Of its parts, as their packages and notices state them; that of the model itself is yours to name above.\n\n"
        + _table(("part", "licence"), rows)
    )


def _list(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

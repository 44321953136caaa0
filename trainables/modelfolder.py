"""What a trained model's folder holds beside its weights, so that it stands alone: without the data it was trained on.

    config.yaml        the TrialConfig
    model.json         what of the data the model needs: see :class:`ModelFacts`
    tokenizer.json     where the vocabulary was made of the training texts
    best.safetensors   the weights of its best epoch, and in the header that epoch's metrics

K columns of categories, M numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainables.files import write_atomic
from trainables.task import Task

CONFIG, FACTS, TOKENIZER, WEIGHTS = "config.yaml", "model.json", "tokenizer.json", "best.safetensors"
LAST, MIDDLE = "last.safetensors", "middle.safetensors"  # what its training goes on from
FORMAT = 1


@dataclass(frozen=True)
class NumberScale:
    """A column of numbers as the training rows had it."""

    name: str
    mean: float
    std: float
    has_missing: bool


@dataclass(frozen=True)
class EncoderUsed:
    """Where a modality's features come from.

    ``fingerprint`` changes with its files; ``is_cached``: trained on what it gave once, kept as float16;
    ``is_regions``: no encoder, but a file of what an object detector found.
    """

    name: str
    fingerprint: str
    is_locked: bool
    is_cached: bool
    is_regions: bool = False


@dataclass(frozen=True)
class Columns:
    """The columns of the table that it was trained on, by what they are read as (as in a ``table.yaml``).

    Of a format that is no table the columns have the names of what they hold: id, text, image, label. Those of
    ``text_numbers`` and ``text_categories`` are put in front of the text (docs/methods.md#metadata).
    """

    text: tuple[str, ...] = ()
    image: str | None = None
    id: str | None = None
    label: str | None = None
    label_separator: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    text_numbers: tuple[str, ...] = ()
    text_categories: tuple[str, ...] = ()
    na_values: tuple[str, ...] | None = None
    is_normalised: bool = True


@dataclass(frozen=True)
class ModelFacts:
    """What a model needs to know of the data it was trained on.

    Attributes:
        task: what it predicts, with the names of its classes.
        target: which labels of the dataset.
        dataset: its name.
        fingerprint: of the files behind it.
        rows: split -> how many labelled ones it had.
        label_scale: mean and deviation of a regression's labels; None of classes.
        numeric: of the M numbers it reads.
        categorical: of the K columns of categories it reads, the values of code 1, 2, ...
        graph: the name of the graph it reads; None if it reads none.
        num_nodes: of that graph.
        encoders: by modality.
        columns: what a row of new data is read from.
        versions: of the packages that trained it.
    """

    task: Task
    target: str
    dataset: str
    fingerprint: str
    rows: Mapping[str, int]
    label_scale: tuple[float, float] | None = None
    numeric: tuple[NumberScale, ...] = ()
    categorical: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graph: str | None = None
    num_nodes: int | None = None
    encoders: Mapping[str, EncoderUsed] = field(default_factory=dict)
    columns: Columns = Columns()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it reads, of 'text', 'image', 'numeric', 'categorical' and 'graph'."""
        others = {"numeric": self.numeric, "categorical": self.categorical, "graph": self.num_nodes is not None}
        return (*sorted(self.encoders, reverse=True), *(name for name, has_any in others.items() if has_any))

    @property
    def reads_regions(self) -> bool:
        """Whether a file of regions stands in a picture's place, which need not be there."""
        return any(used.is_regions for used in self.encoders.values())


def write_facts(folder: Path, facts: ModelFacts) -> None:
    """Writes ``model.json``, as a whole."""
    write_atomic(folder / FACTS, json.dumps({"format": FORMAT, **asdict(facts)}, indent=1, ensure_ascii=False) + "\n")


def read_facts(folder: Path) -> ModelFacts:
    """What ``model.json`` says.

    Raises:
        ValueError: it is missing, no such file, or of a newer version.
    """
    path = folder / FACTS
    if not path.is_file():
        raise ValueError(f"{folder}: holds no trained model ({FACTS} is missing)")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise ValueError(f"{path}: format {values['format']} is of a newer mmtune; this one reads {FORMAT}")
        return _facts(values)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: does not describe a trained model ({reason})") from None


def _facts(values: dict[str, Any]) -> ModelFacts:
    task, scale = values["task"], values["label_scale"]
    columns: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values["columns"].items()
    }
    return ModelFacts(
        task=Task(**{**task, "classes": tuple(task["classes"])}),
        target=values["target"],
        dataset=values["dataset"],
        fingerprint=values["fingerprint"],
        rows=values["rows"],
        label_scale=None if scale is None else (scale[0], scale[1]),
        numeric=tuple(NumberScale(**number) for number in values["numeric"]),
        categorical={name: tuple(known) for name, known in values["categorical"].items()},
        graph=values["graph"],
        num_nodes=values["num_nodes"],
        encoders={modality: EncoderUsed(**used) for modality, used in values["encoders"].items()},
        columns=Columns(**columns),
        versions=values["versions"],
    )

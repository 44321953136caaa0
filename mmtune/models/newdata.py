"""What a model is to answer: rows of a file, of a folder with a ``table.yaml``, or of a dataset in its own format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.messages import from_known

if TYPE_CHECKING:
    from trainables.data.newtable import NewTable
    from trainables.data.reading.newfiles import NewFiles
    from trainables.trained import Trained


@dataclass(frozen=True)
class NewData:
    """Rows without their labels.

    Attributes:
        rows: which ones; checked, they have what the model reads.
        notes: what a user should know of them, a line each.
    """

    rows: NewFiles | NewTable
    notes: tuple[str, ...] = ()


def find_data(trained: Trained, data: str | None, *, dataset: str | None = None, split: str | None = None) -> NewData:
    """The rows that a user means.

    Args:
        trained: the model.
        data: a CSV, TSV, Parquet or JSON-lines file, or a dataset's folder; None is the data it was trained on, or of
            ``dataset``, which is embedded then.
        dataset: the format of a folder; None is that of the training data.
        split: 'train', 'val' or 'test' of a dataset; None is all rows.

    Raises:
        ValueError: no such file or folder, or rows that lack what the model reads.
    """
    path = None if data is None else Path(data)
    if path is not None and not path.exists():
        raise ValueError(f"--data {data}: no such file or folder")
    if path is not None and not path.is_dir():
        for option, value in (("--dataset", dataset), ("--split", split)):
            if value is not None:
                raise ValueError(f"{option} {value}: is of folders, but --data {data} is a file")
        return _of_file(trained, path)
    return _of_folder(trained, data, dataset, split)


def _of_file(trained: Trained, path: Path) -> NewData:
    from trainables.data.reading.newfiles import NewFiles
    from trainables.data.reading.tablefile import SUFFIXES

    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"--data {path}: ends in none of {', '.join(SUFFIXES)}")
    _check_no_graph(trained)
    rows = NewFiles(trained.facts, path.parent.resolve(), (path.parent.resolve() / path.name,), trained.facts.columns)
    rows.check()
    return NewData(rows, _seen(trained, [path]))


def _of_folder(trained: Trained, data: str | None, dataset: str | None, split: str | None) -> NewData:
    from trainables.data.formats import dataset_module
    from trainables.data.newtable import NewTable
    from trainables.data.reading.dataset import DatasetRef

    own, own_dir = trained.config.dataset, trained.config.data_dir
    if dataset is None:
        dataset = "table" if data is not None and dataset_module(own).IS_EMBEDDED else own
        data = own_dir if data is None else data
    module = dataset_module(dataset)
    if data is None and not module.IS_EMBEDDED:
        raise ValueError(f"dataset {dataset} needs --data, a folder or a file")
    if dataset == "table" and split is None and data is not None:
        return _of_table(trained, Path(data))
    ref = DatasetRef(dataset, data, needs_pictures=not trained.facts.reads_regions)
    rows = NewTable(trained.facts, trained.modalities, ref, split)
    rows.check()
    return NewData(rows, tuple(rows.notes))


def _of_table(trained: Trained, root: Path) -> NewData:
    """Without labels, and without keeping the rows."""
    from dataclasses import replace

    from trainables.data.formats.table import table_spec
    from trainables.data.reading.newfiles import NewFiles

    _check_no_graph(trained)
    spec, columns, reads = table_spec(str(root), needs_labels=False), trained.facts.columns, trained.modalities
    where = root / "table.yaml"
    text = (spec.text or columns.text) if "text" in reads else ()
    image = (spec.image or columns.image) if "image" in reads else None
    columns = replace(
        columns, text=text, image=image, id=spec.id, na_values=tuple(spec.cells.na_values),
        is_normalised=spec.cells.normalise,
    )  # fmt: skip
    for modality, named in (("numeric", spec.numeric), ("categorical", spec.categorical)):
        for name in getattr(columns, modality):
            if named and name not in named:
                raise ValueError(
                    f"{where}: {modality}: {name!r} is missing, which the model reads{from_known(name, named)}"
                )
    files = tuple(root.resolve() / path.relative_to(root) for path, _ in spec.files)
    rows = NewFiles(trained.facts, root.resolve(), files, columns, spec.separator, spec.quote)
    rows.check()
    return NewData(rows, _seen(trained, files))


def _check_no_graph(trained: Trained) -> None:
    if "graph" in trained.modalities:
        raise ValueError(
            f"the model reads a graph, whose nodes are those of {trained.config.dataset} as it was trained on: it can "
            "answer rows of that dataset alone (--split, without a file)"
        )


def _seen(trained: Trained, files: tuple[Path, ...] | list[Path]) -> tuple[str, ...]:
    """A note if a file is one that the model was trained on."""
    own = trained.config.data_dir
    if trained.config.dataset != "table" or own is None:
        return ()
    inside = [path for path in files if path.resolve().is_relative_to(Path(own).resolve())]
    if not inside:
        return ()
    return (
        f"{inside[0].name} is of the data that the model was trained on, and has rows that it has seen with their "
        f"labels: --data {own} --split val or test leaves them out",
    )

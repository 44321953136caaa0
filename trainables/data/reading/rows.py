"""Rows of a table while its files are read: what cannot be used becomes a line in ``problems``.

What is used, but was read otherwise than it is written, becomes a line in ``notes``, with its count and first place.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from trainables.data.reading.cells import USUAL, Cells, missing_note, read_names
from trainables.data.reading.fields import BadRow, clean
from trainables.data.reading.folder import Pictures
from trainables.data.reading.table import ImageFiles, LeftOut, Neighbours, Table, Target, root_cause
from trainables.data.reading.targets import multiclass, multilabel
from trainables.data.reading.textfiles import Note

MISSING = "missing"
_REPEATED = "was there before"
_OTHER_FILE = "an id that an earlier file has, too: the file's name is put before it"
_OTHER_SPELLING = "a name that is spelled in another way on disk"


class Rows:
    """Collects rows. A block under ``with rows.at(path, line):`` that raises BadRow is noted and left.

    Under ``with rows.sample(path, line):`` what is left is a sample, which the table then has among its ``left_out``.

    Args:
        dataset: its name, for messages.
        root: the dataset's folder; paths in problems and pictures are relative to it.
        cells: how cells are read.
        has_local_ids: an id that an earlier file has, too, is another row's: the file's name goes before it.
    """

    def __init__(self, dataset: str, root: Path, *, cells: Cells = USUAL, has_local_ids: bool = False) -> None:
        self.dataset, self.root, self.cells, self.has_local_ids = dataset, root, cells, has_local_ids
        self.pictures = Pictures(root)
        self.ids: list[str] = []
        self.splits: list[str] = []
        self.texts: list[str | None] = []
        self.images: list[str | None] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.place: tuple[Path, int | None] = (root, None)  # that the next problem is about
        self.left_out: list[LeftOut] = []
        self._sample: tuple[str | None, str] | None = None  # id and split of the one that is read
        self._columns: dict[str, list[Any]] = {}
        self._seen: dict[str, int] = {}  # id -> number of its file
        self._files: dict[Path, int] = {}
        self.num_repeated = 0  # rows left out because their id was there before
        self._places = array("i")  # of each row its file's number and its line, -1 where it has none
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, path: Path, line: int | None = None) -> Self:
        """The place that the next problem is about."""
        self.place, self._sample = (path, line), None
        return self

    def sample(self, path: Path, line: int | None = None, *, id: str | None = None, split: str = "") -> Self:
        """The place of the next sample.

        Args:
            path: its file.
            line: and line.
            id: where it is known before the sample is read.
            split: where its place says it.
        """
        self.place, self._sample = (path, line), (id, split)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, BadRow):
            self.note(*self.place, str(error))
            if self._sample is not None:
                self.leave(str(error))
            return True
        return False

    def note(self, path: Path, line: int | None, why: str) -> None:
        """Adds a problem."""
        self.problems.append(f"{self._place_text(path, line)}: {why}")

    def named(self, id: str) -> str:
        """The id, which the sample that is being read now has."""
        self._sample = (id, self._sample[1] if self._sample else "")
        return id

    def lost(self, split: str = "") -> Note:
        """What the functions of :mod:`textfiles` call with a line that is a sample and cannot be read."""

        def lose(path: Path, line: int | None, why: str) -> None:
            with self.sample(path, line, split=split):
                raise BadRow(why)

        return lose

    def leave(self, why: str) -> None:
        """Leaves the sample that is being read, for a reason that is among the problems."""
        id, split = self._sample or (None, "")
        self.left_out.append(LeftOut(len(self), id or self.here(), why, split))

    def remark(self, path: Path, line: int | None, what: str) -> None:
        """Adds a note; of what a file has in several lines there is one, with their number and the first."""
        if line is None:
            self.notes.append(what)
        else:
            self.tally(self._name(path), what, "", place=(path, line))

    def tally(self, column: str, what: str, text: str, *, place: tuple[Path, int | None] | None = None) -> None:
        """Counts something about the row that is being read; see :meth:`remark`."""
        found = self._tallies.setdefault((column, what), _Tally(self._place_text(*(place or self.place))))
        found.texts[text] += 1

    def here(self) -> str:
        """The file and line that are being read."""
        return self._place_text(*self.place)

    def place_of(self, row: int) -> str:
        """The file and line that a row is from."""
        at, line = self._places[2 * row : 2 * row + 2]
        return self._place_text([*self._files][at], None if line < 0 else line)

    def _place_text(self, path: Path, line: int | None) -> str:
        kind = "row" if path.suffix.lower() == ".parquet" else "line"
        return self._name(path) + ("" if line is None else f" {kind} {line}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def add(
        self, *, id: str, split: str = "", text: str | None = None, image: str | None = None, **columns: Any
    ) -> None:
        """Adds a row; ``columns`` are for the reader, the same names in every row.

        Raises:
            BadRow: the id was there before, or the picture cannot be used.
        """
        if clean(id) != id:
            raise BadRow(f"id {clean(id)} is not UTF-8")
        self.named(id)
        path, line = self.place
        file = self._files.setdefault(path, len(self._files))
        if self.has_local_ids and self._seen.get(id, file) != file:
            self.tally(self._name(path), _OTHER_FILE, id)
            id = f"{self._name(path)}:{id}"
        if id in self._seen:
            self.num_repeated += 1
            raise BadRow(f"id {id} {_REPEATED}")
        if image is not None:
            found, reason = self.pictures.find(image)
            if reason is not None:
                raise BadRow(reason)
            if found != image:
                self.tally("pictures", _OTHER_SPELLING, f"{image} is {found}")
                image = found
        if not self.ids:
            self._columns = {name: [] for name in columns}
        assert columns.keys() == self._columns.keys()
        self._seen[id] = file
        self._places.extend((file, -1 if line is None else line))
        self.ids.append(id)
        self.splits.append(split)
        self.texts.append(text)
        self.images.append(image)
        for name, value in columns.items():
            self._columns[name].append(value)

    def column(self, name: str) -> list[Any]:
        """What the reader gave under ``name``, one value a row."""
        return self._columns[name]

    def check(self) -> None:
        """Raises ValueError if there is no row, or if most were left out because their id was there before."""
        if not self.ids:
            first = f"; {len(self.problems)} problems, the first: {self.problems[0]}" if self.problems else ""
            raise ValueError(f"dataset {self.dataset}: {self.root} has no row that can be used{first}")
        if self.num_repeated > len(self.ids):  # one file twice is no more than as many
            first = next(problem for problem in self.problems if problem.endswith(_REPEATED))
            raise ValueError(
                f"dataset {self.dataset}: {self.root}: ids are none: of {self.num_repeated:,} rows they were there "
                f"before, {len(self.ids):,} rows are left; the first: {first}"
            )

    def names(self, what: str, values: Sequence[str | None], *, unit: str = "value") -> list[str | None]:
        """A column's values: None for those that mean 'missing', one spelling for each other; both are noted.

        Args:
            what: the column, for notes.
            values: one a row; None is missing and not counted.
            unit: 'label' or 'value'.
        """
        counts = Counter(value for value in values if value is not None)

        def first(texts: Collection[str]) -> str:
            return self.place_of(next(row for row, text in enumerate(values) if text in texts))

        changed, notes = read_names(counts, cells=self.cells, what=what, unit=unit, place_of=first)
        self.notes += notes
        return [None if value is None else changed.get(value, value) for value in values] if changed else list(values)

    def sets(self, what: str, values: Sequence[Collection[str] | None]) -> list[tuple[str, ...] | None]:
        """The same of a column with several values a row; a row with nothing but missing ones is None."""

        def first(texts: Collection[str]) -> str:
            return self.place_of(next(row for row, names in enumerate(values) if not {*texts}.isdisjoint(names or ())))

        counts = Counter(name for names in values for name in names or ())
        changed, notes = read_names(counts, cells=self.cells, what=what, unit="label", place_of=first)
        self.notes += notes
        found: list[tuple[str, ...] | None] = []
        for value in values:
            kept = [changed.get(name, name) for name in value or ()]
            known = tuple(dict.fromkeys(name for name in kept if name is not None))
            found.append(None if value is None or (value and not known) else known)
        return found

    def multiclass(self, values: Sequence[str | None], classes: Sequence[str] | None = None) -> Target:
        """See :func:`trainables.data.reading.targets.multiclass`.

        Raises:
            ValueError: fewer than two classes; what was left out before is said.
        """
        return self._target(multiclass, values, classes)

    def multilabel(self, values: Sequence[Collection[str] | None], classes: Sequence[str] | None = None) -> Target:
        """See :func:`trainables.data.reading.targets.multilabel`.

        Raises:
            ValueError: no class at all; what was left out before is said.
        """
        return self._target(multilabel, values, classes)

    def _target(self, make: Any, values: Any, classes: Sequence[str] | None) -> Target:
        try:
            return make(values, classes)
        except ValueError as error:
            raise ValueError(f"dataset {self.dataset}: {self.root}: {self.cause}{error}") from None

    @property
    def cause(self) -> str:
        """What to say before an error about the rows that are left: that others are not."""
        return root_cause(self.problems)

    def table(
        self,
        targets: dict[str, Target],
        *,
        split: np.ndarray | None = None,
        images: Sequence[bytes] | None = None,
        numeric: Mapping[str, Sequence[float] | np.ndarray] | None = None,
        categorical: Mapping[str, Sequence[str | None]] | None = None,
        graphs: Mapping[str, Neighbours] | None = None,
    ) -> Table:
        """The table; texts and pictures are None where no row has any.

        Args:
            split: given here where the files have none.
            images: where pictures are not files.
            numeric: by column, NaN where missing.
        """
        names = [name for name in self.images if name is not None]
        assert len(names) in (0, len(self.ids)), "either all rows have pictures or none"
        has_text = any(text is not None for text in self.texts)
        return Table(
            ids=self.ids,
            split=np.array(self.splits, "<U5") if split is None else split,
            targets=targets,
            texts=[text or "" for text in self.texts] if has_text else None,
            images=ImageFiles(self.root, names) if names else images,
            numeric=np.stack([np.asarray(values, np.float64) for values in numeric.values()], 1) if numeric else None,
            numeric_names=tuple(numeric or ()),
            categorical={
                name: self.names(f"categorical {name}", values) for name, values in (categorical or {}).items()
            },
            graphs=graphs or {},
            problems=self.problems,
            notes=[*self.notes, *(_tally_text(*key, tally) for key, tally in self._tallies.items())],
            left_out=self.left_out,
        )


@dataclass(frozen=True)
class _Tally:
    first: str  # place
    texts: Counter[str] = field(default_factory=Counter)


def _tally_text(column: str, what: str, tally: _Tally) -> str:
    if what == MISSING:
        return missing_note(column, "label" if column.startswith("label") else "value", tally.texts, tally.first)
    num, text = tally.texts.total(), next(iter(tally.texts))
    return f"{column}: {num:,} time{'s' * (num != 1)} {what}; first {tally.first}{f': {text}' if text else ''}"

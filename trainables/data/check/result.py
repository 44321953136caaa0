"""What a check of a dataset measured: JSON after ``dataclasses.asdict``.

Lists of rows are cut at ``LISTED``; counts are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LISTED = 50  # rows of one kind
Splits = dict[str, int]  # rows by split
Shares = dict[str, float | None]  # by split; None where it has no rows


@dataclass(frozen=True)
class RowRef:
    """A row as a person finds it again: ``place`` is its image's file, where there is one."""

    row: int
    id: str
    split: str
    place: str | None = None


@dataclass(frozen=True)
class Contradiction:
    """Rows with the same text and image and different labels; ``rows`` with ``labels`` are the first ten."""

    num_rows: int
    rows: list[RowRef]
    labels: list[str]
    text: str | None


@dataclass(frozen=True)
class ClassSize:
    """A class and its training rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class TargetCheck:
    """Labels of one target.

    Attributes:
        kind: of the task.
        labelled: rows with a label.
        classes: class -> rows that have it.
        missing: split -> classes that none of its labelled rows has.
        smallest: class with the fewest training rows; ``largest`` has the most.
        cardinality: multi-label, mean number of classes a row.
        empty: multi-label, rows labelled with no class.
        moments: regression, split -> mean, deviation, min, max.
        baseline: score of the best constant: accuracy of the training majority, average precision (micro) of a
            constant, or rmse of the training mean, as ``baseline_metric`` says.
        named: rows whose text has all words of their class (a multi-label row: of one of its classes).
        named_share: of the labelled rows.
        num_contradictions: groups of rows.
        contradicting_rows: in those groups.
        contradicting_in_all: rows that still contradict another when numbers, categories and graph count, too; None
            where the dataset has none of these.
        contradictions: the first groups.
    """

    kind: str
    labelled: Splits
    baseline_metric: str
    baseline: Shares
    classes: dict[str, Splits] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    smallest: ClassSize | None = None
    largest: ClassSize | None = None
    cardinality: Shares | None = None
    empty: Splits | None = None
    moments: dict[str, dict[str, float]] | None = None
    named: int | None = None
    named_share: float | None = None
    num_contradictions: int = 0
    contradicting_rows: int = 0
    contradicting_in_all: int | None = None
    contradictions: list[Contradiction] = field(default_factory=list)


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of the texts, specials included.

    Attributes:
        percentiles: percentile -> tokens.
        cut_share: of the texts, longer than ``max_text_len``.
        limit: of the encoder; None takes any length.
        over_limit_share: of the texts, longer than ``limit``.
    """

    percentiles: dict[str, float]
    max_text_len: int
    cut_share: float
    limit: int | None
    over_limit_share: float


@dataclass(frozen=True)
class TextCheck:
    """Texts; ``tokens`` by encoder, ``empty_rows`` are the first."""

    empty: Splits
    empty_rows: list[RowRef]
    characters: dict[str, float]
    tokens: dict[str, TokenLengths]


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be decoded, and why."""

    row: RowRef
    problem: str


@dataclass(frozen=True)
class ImageCheck:
    """Images.

    Attributes:
        unreadable: rows whose image is missing or cannot be decoded.
        bad_images: all of them.
        pictures: different files, by name or content.
        width: percentile -> pixels; also ``height`` and ``aspect`` (width over height).
        modes: Pillow mode -> rows.
        kinds: file format -> rows.
        plain: readable rows with nothing to see; never near copies.
    """

    unreadable: Splits
    bad_images: list[BadImage]
    pictures: int
    width: dict[str, float]
    height: dict[str, float]
    aspect: dict[str, float]
    modes: dict[str, int]
    kinds: dict[str, int]
    plain: int


@dataclass(frozen=True)
class Copy:
    """A row and one that it is a copy of."""

    row: RowRef
    copy_of: RowRef
    is_exact: bool
    text: str | None
    copy_text: str | None


@dataclass(frozen=True)
class CopyCheck:
    """Rows that have copies, themselves apart.

    Attributes:
        exact: split -> split -> rows of the first that have a copy in the second.
        near: the same for rows that have only a near copy there; None: not looked for.
        exact_across: rows of val and test with an exact copy in an earlier split.
        near_across: those with only a near copy.
        skipped: see ``num_skipped`` of :class:`trainables.data.check.duplicates.NearPairs`.
        examples: the first of each pair of splits.
    """

    exact: dict[str, Splits]
    near: dict[str, Splits] | None
    exact_across: int
    near_across: int
    skipped: int
    examples: list[Copy]


@dataclass(frozen=True)
class NumericColumn:
    """Share of rows without a finite value; whether all others are equal; by target, the correlation with the label:
    |r| (regression, the largest over a multi-label target's classes) or the correlation ratio."""

    missing_share: float
    is_constant: bool
    correlation: dict[str, float | None]


@dataclass(frozen=True)
class Prediction:
    """How well one column tells the label on val and test rows, learnt from the training rows: accuracy of each
    value's majority class, or explained variance; ``gain`` is the share of the baseline's errors that it avoids."""

    metric: str
    score: float
    baseline: float
    gain: float


@dataclass(frozen=True)
class CategoricalColumn:
    """Different values, share of rows without one, share of rows with a value that no training row has, and by target
    what the column alone predicts."""

    values: int
    train_values: int
    missing_share: float
    unseen_share: Shares
    alone: dict[str, Prediction | None]


@dataclass(frozen=True)
class GraphCheck:
    """Nodes that rows are linked to; ``unseen_share`` of a split's edges lead to nodes without a training row."""

    nodes: int
    linked_nodes: int
    edges: int
    isolated: Splits
    unseen_share: Shares


@dataclass(frozen=True)
class Finding:
    """Something to look at; ``is_strict``: ``--strict`` refuses the dataset for it."""

    text: str
    is_strict: bool
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DatasetCheck:
    """Everything that was measured.

    Attributes:
        dataset: its name.
        num_read: rows that the reader gave; more than ``rows`` if only some were looked at.
        rows: looked at, by split.
        problems: of the reader, all: file, line, why.
        notes: of the reader: what it read otherwise than it is written.
        duplicate_ids: id -> rows that have it.
    """

    dataset: str
    num_read: int
    rows: Splits
    problems: list[str]
    notes: list[str]
    duplicate_ids: dict[str, int]
    targets: dict[str, TargetCheck]
    text: TextCheck | None
    image: ImageCheck | None
    copies: dict[str, CopyCheck]
    numeric: dict[str, NumericColumn]
    categorical: dict[str, CategoricalColumn]
    graphs: dict[str, GraphCheck]
    findings: list[Finding] = field(default_factory=list)

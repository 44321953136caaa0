"""Random training rows of each class, to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.data.check.labels import Labels
from trainables.data.check.rows import Look
from trainables.data.reading.pictures import decode_image
from trainables.data.reading.table import Table
from trainables.seeds import derive_seed


@dataclass(frozen=True)
class Sample:
    """A training row to draw; None is what the dataset does not have, or an image that cannot be decoded."""

    id: str
    label: str
    text: str | None
    image: np.ndarray | None  # uint8 (S, S, 3)


def draw_samples(
    table: Table, *, target: str | None = None, num_groups: int = 24, num: int = 4, image_size: int = 96
) -> dict[str, list[Sample]]:
    """Random training rows by class: at most ``num`` of each of the ``num_groups`` most frequent.

    A regression's groups are ranges of the label with as many rows each, five at most.

    Args:
        target: None is the first.
        image_size: pixels a side.
    """
    rng = np.random.default_rng(derive_seed(1, "samples"))
    look = Look(table, rng.permutation(np.flatnonzero(table.split == "train")))
    labels = Labels(look, table.targets[target or next(iter(table.targets))])
    return {
        group: [
            Sample(
                id=look.ids[at],
                label=labels.text(at),
                text=look.texts[at] if look.texts else None,
                image=_picture(table, int(look.rows[at]), image_size),
            )
            for at in places[:num].tolist()
        ]
        for group, places in _groups(labels, num_groups).items()
    }


def _groups(labels: Labels, num_groups: int) -> dict[str, np.ndarray]:
    """Places of rows by class or range, in their order."""
    used = np.flatnonzero(labels.used)
    if labels.kind == "regression":
        parts = np.array_split(used[np.argsort(labels.values[used], kind="stable")], min(5, num_groups))
        return {f"{labels.text(part[0])} to {labels.text(part[-1])}": np.sort(part) for part in parts if len(part)}
    counts = labels.counts().sum(axis=1)
    found = {}
    for index in np.sort(np.argsort(-counts, kind="stable")[:num_groups]):
        if labels.kind == "multiclass":
            found[labels.names[index]] = used[labels.values[used] == index]
        else:
            found[labels.names[index]] = np.repeat(np.arange(len(labels.used)), labels.num_classes)[
                labels.columns == index
            ]
    return {name: places for name, places in found.items() if len(places)}


def _picture(table: Table, row: int, size: int) -> np.ndarray | None:
    if table.images is None:
        return None
    try:
        return decode_image(table.images[row], size=size, where="").transpose(1, 2, 0)
    except (OSError, ValueError):  # said in the check
        return None

"""Visual entailment of emoji: does the text belong to the drawing? Neither of the two alone says anything.

Made when it is read, from the rows of ``emoji``. Each drawing is there three times, once a label: with its own
keywords (entailment), with those of another emoji of its subgroup (neutral) and of one of another group
(contradiction). Each emoji's keywords are there once a label, too, so that labels are balanced given the drawing and
given the text. Pairs are made within a split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.formats import emoji
from trainables.data.reading.folder import no_folder
from trainables.data.reading.table import SPLITS, Table
from trainables.data.reading.targets import multiclass

_NAME = "emoji_entailment"
SUMMARY = "9,204 pairs of an emoji's drawing and keywords: do they belong together? 3 classes"
IS_EMBEDDED = True
TARGETS = {"label": "multiclass"}

CLASSES = ("entailment", "neutral", "contradiction")


def sources(data_dir: str | None) -> list[Path]:
    """The one file of ``emoji``.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder(_NAME, data_dir)
    return emoji.sources(None)


def read(data_dir: str | None) -> Table:
    """Three rows a drawing. Emoji that have no partner in their subgroup and split are left out.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder(_NAME, data_dir)
    drawings = emoji.read(None)
    assert drawings.texts is not None and drawings.images is not None
    code = [id.rpartition("-")[0] for id in drawings.ids]
    first = {name: row for row, name in reversed([*enumerate(code)])}  # a row of each emoji
    text = {name: drawings.texts[row] for name, row in first.items()}
    group, subgroup = (
        {name: target.labels[row] for name, row in first.items()} for target in drawings.targets.values()
    )
    partner: dict[str, tuple[str, str, str]] = {}  # whose keywords an emoji gets under each label
    for split in SPLITS:
        names = sorted((name for name, row in first.items() if drawings.split[row] == split), key=_shuffled)
        kin: dict[str, str] = {}
        for one in {subgroup[name]: None for name in names}:
            kin |= _deranged([name for name in names if subgroup[name] == one], text)
        other = _deranged([name for name in names if name in kin], group)
        partner |= {name: (name, kin[name], other[name]) for name in other}
    made = [
        (row, label, whose)
        for row, name in enumerate(code)
        if name in partner
        for label, whose in zip(CLASSES, partner[name], strict=True)
    ]
    return Table(
        ids=[f"{drawings.ids[row]}-{label}" for row, label, _ in made],
        split=drawings.split[[row for row, _, _ in made]],
        texts=[text[whose] for _, _, whose in made],
        images=[drawings.images[row] for row, _, _ in made],
        targets={"label": multiclass([label for _, label, _ in made], CLASSES)},
    )


def _deranged(names: Sequence[str], keys: Mapping[str, Any]) -> dict[str, str]:
    """A permutation of the names, or of most of them, in which nobody's partner has the same key.

    There is one if no key has more than half of them: sort by key and go on by as many as the most frequent has. Until
    then the last that have the most frequent key are left out.
    """
    left = list(names)
    while left:
        key, most = Counter(keys[name] for name in left).most_common(1)[0]
        if 2 * most <= len(left):
            place = {key: at for at, key in enumerate(dict.fromkeys(keys[name] for name in left))}
            order = sorted(left, key=lambda name: place[keys[name]])
            return dict(zip(order, np.roll(np.array(order), -most).tolist(), strict=True))
        left.remove(next(name for name in reversed(left) if keys[name] == key))
    return {}


def _shuffled(name: str) -> str:
    return sha256(name.encode()).hexdigest()

from collections import Counter

import pyarrow.parquet
import pytest

from trainables.data.formats import emoji, emoji_es
from trainables.data.reading.pictures import decode_image


@pytest.fixture(scope="module")
def rows():
    return pyarrow.parquet.read_table(emoji.sources(None)[0]).to_pydict()


def groups(table):
    """The emoji of each row."""
    return [id.rpartition("-")[0] for id in table.ids]


@pytest.mark.slow
def test_sizes_are_those_of_the_summary(rows):
    table = emoji.read(None)
    assert len(table.ids) == 3206 and Counter(table.split.tolist()) == {"train": 2238, "val": 320, "test": 648}
    assert [target.task.num_outputs for target in table.targets.values()] == [8, 95]
    group, subgroup = table.targets["group"], table.targets["subgroup"]
    assert [group.task.classes[label] for label in group.labels] == rows["label"]
    assert [subgroup.task.classes[label] for label in subgroup.labels] == rows["subgroup"]
    assert all(decode_image(data, size=40, where="").shape == (3, 40, 40) for data in table.images)


def test_both_drawings_of_an_emoji_are_in_one_split():
    table = emoji.read(None)
    assert set(Counter(groups(table)).values()) == {2}
    assert len(set(zip(groups(table), table.split.tolist(), strict=True))) == 1603


def test_nothing_that_gives_the_group_away_is_read(rows):
    """Order and code point are no features, and the English keywords hold no word of the group."""
    table = emoji.read(None)
    assert table.numeric is None and not table.categorical and table.graph is None
    for text, label in zip(table.texts, rows["label"], strict=True):
        assert not set(text.lower().replace(",", " ").split()) & set(label.split("-"))


def test_spanish_has_the_same_rows(rows):
    english, spanish = emoji.read(None), emoji_es.read(None)
    assert spanish.ids == english.ids and (spanish.split == english.split).all() and spanish.images == english.images
    assert spanish.texts == rows["text_es"] != english.texts and all(spanish.texts)

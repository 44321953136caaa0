from collections import Counter, defaultdict

import pytest

from trainables.data.formats import emoji, emoji_entailment


@pytest.fixture(scope="module")
def table():
    return emoji_entailment.read(None)


@pytest.fixture(scope="module")
def facts():
    """Of each drawing's id in ``emoji``: its emoji, keywords, group and subgroup."""
    drawings = emoji.read(None)
    group, subgroup = (target.labels for target in drawings.targets.values())
    codes = [id.rpartition("-")[0] for id in drawings.ids]
    return dict(zip(drawings.ids, zip(codes, drawings.texts, group, subgroup, strict=True), strict=True))


def drawing(table, row):
    return table.ids[row].rpartition("-")[0]


def groups(table):
    """The emoji of each row."""
    return [id.rsplit("-", 2)[0] for id in table.ids]


def labels(table):
    names = table.targets["label"].task.classes
    return [names[label] for label in table.targets["label"].labels]


def test_sizes(table):
    assert len(table.ids) == 9204 and Counter(table.split.tolist()) == {"train": 6660, "val": 750, "test": 1794}
    assert emoji_entailment.SUMMARY.startswith("9,204 ")


@pytest.mark.parametrize("column", ["texts", "images"])
def test_neither_modality_alone_says_anything(table, column):
    """Given the text, and given the drawing, each label is as frequent as the others, in every split."""
    seen = defaultdict(Counter)
    for row, (value, label) in enumerate(zip(getattr(table, column), labels(table), strict=True)):
        seen[table.split[row], value][label] += 1
    assert all(len(counts) == 3 and len({*counts.values()}) == 1 for counts in seen.values())


def test_a_label_is_what_the_pair_is(table, facts):
    """Keywords that several emoji have count as those of all of them."""
    whose = defaultdict(set)
    for code, text, group, subgroup in facts.values():
        whose[text].add((code, group, subgroup))
    for row, label in enumerate(labels(table)):
        code, text, group, subgroup = facts[drawing(table, row)]
        given = table.texts[row]
        if label == "entailment":
            assert given == text
        else:
            assert given != text and code not in {other for other, _, _ in whose[given]}
        if label == "neutral":
            assert subgroup in {kin for _, _, kin in whose[given]}
        if label == "contradiction":
            assert any(other != group for _, other, _ in whose[given])


def test_both_drawings_of_an_emoji_have_the_same_texts(table):
    texts = defaultdict(list)
    for row, text in enumerate(table.texts):
        texts[drawing(table, row)].append(text)
    by_emoji = defaultdict(set)
    for name, given in texts.items():
        by_emoji[name.rpartition("-")[0]].add(tuple(given))
    assert all(len(found) == 1 for found in by_emoji.values())

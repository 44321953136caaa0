import itertools
import random
import re

import numpy as np
import pytest

from trainables.data.check.duplicates import codes_of, find_copies, near_hashes, near_texts, normalised


def jaccard(a, b):
    sets = []
    for text in (a, b):
        words = re.findall(r"\w+", text)
        words += [""] * (3 - len(words)) if words else []
        sets.append({tuple(words[at : at + 3]) for at in range(len(words) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if all(sets) else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("num_words", [6, 40, 3000])
def test_near_texts_are_those_of_all_pairs(num_words):
    rng = random.Random(num_words)
    words = [f"w{at}" for at in range(num_words)]
    texts = {" ".join(rng.choices(words, k=rng.randrange(30))) for _ in range(150)} | {
        "...",
        "!",
        "w1",
        "w1 w2",
        "w1, w2",
    }
    for text in sorted(texts)[::2]:  # with words taken away, put in and replaced
        changed = text.split()
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(changed) + 1)
            changed[at : at + rng.randrange(2)] = rng.choices(words, k=rng.randrange(2))
        texts.add(" ".join(changed))
    texts = sorted(texts)
    expected = [(i, j) for i, j in itertools.combinations(range(len(texts)), 2) if jaccard(texts[i], texts[j]) >= 0.8]
    found = near_texts(texts)
    assert len(expected) > 5 and found.num_skipped == 0
    assert [tuple(pair) for pair in found.pairs] == expected


def test_a_jaccard_index_of_exactly_the_least_is_near():
    words = "a b c d e f g h i j k".split()  # nine shingles; without the last word eight of them
    texts = [" ".join(words), " ".join(words[:-1])]
    assert near_texts(texts, 8 / 9).pairs.tolist() == [[0, 1]]
    assert near_texts(texts, 8 / 9 + 1e-6).pairs.tolist() == []


def test_no_texts_have_no_pairs():
    for texts in ([], [""], ["one"], ["one", "?"]):
        assert near_texts(texts).pairs.shape == (0, 2)


def test_what_is_left_out_of_a_crowd_is_said():
    texts = [f"one two three four five six seven eight nine ten eleven twelve {at}" for at in range(300)]
    found = near_texts(texts)
    assert found.num_skipped > 0 and len(np.unique(found.pairs)) == 300


@pytest.mark.slow
def test_near_hashes_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    first = [int(value) for value in rng.integers(0, 1 << 63, 60)]
    hashes = {(value, 7) for value in first}
    for value in first:
        for distance in (1, 2, 3, 4):
            bits = rng.choice(64, distance, replace=False)
            changed = value ^ sum(1 << int(bit) for bit in bits)
            hashes |= {(changed, 7), (changed, 7 ^ 3), (changed, 7 ^ 56), (value, 7 ^ (1 << int(bits[0])))}
    values = sorted(hashes)
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(values)), 2)
        if all((a ^ b).bit_count() <= 2 for a, b in zip(values[i], values[j], strict=True))
    ]
    found = near_hashes(np.array(values, np.uint64))
    assert len(expected) > 300 and found.num_skipped == 0
    assert [tuple(pair) for pair in found.pairs] == expected


def test_no_hashes_have_no_pairs():
    for num in (0, 1):
        assert near_hashes(np.zeros((num, 2), np.uint64)).pairs.shape == (0, 2)


def test_codes_number_what_is_there():
    assert codes_of(["b", None, "a", "b"]).tolist() == [0, -1, 1, 0]
    assert codes_of([]).tolist() == []


def test_normalised_texts_have_no_case_and_one_space():
    assert normalised(" A\u00a0STRASSE \n b") == normalised("a straße b") == "a strasse b"


def test_copies_are_those_of_all_pairs_of_rows():
    rng = np.random.default_rng(1)
    split, exact = rng.integers(0, 3, 80), rng.integers(-1, 60, 80)
    near = np.where(exact < 0, -1, exact // 2)
    pairs = np.array([(i, j) for i, j in itertools.combinations(range(30), 2) if (i * j) % 11 == 1])
    are_near = {(i, j) for i, j in pairs.tolist()} | {(j, i) for i, j in pairs.tolist()}
    is_exact, is_near = np.zeros((80, 3), bool), np.zeros((80, 3), bool)
    for row, other in itertools.permutations(range(80), 2):
        if min(exact[row], exact[other]) >= 0:
            is_exact[row, split[other]] |= exact[row] == exact[other]
            is_near[row, split[other]] |= near[row] == near[other] or (near[row], near[other]) in are_near
    copies = find_copies(split, exact, near, pairs)
    assert (copies.exact == is_exact).all() and (copies.near == (is_near & ~is_exact)).all()
    assert is_exact.any() and (is_near & ~is_exact).any()

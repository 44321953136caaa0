from collections import Counter

import numpy as np
import pytest

from trainables.data.reading.splits import hash_split, held_out, with_validation

IDS = [f"row {at}" for at in range(1000)]


def test_shares():
    counts = Counter(hash_split(IDS).tolist())
    assert counts == {"train": 800, "val": 100, "test": 100}
    counts = Counter(hash_split(IDS, val=0.25, test=0.05).tolist())
    assert counts == {"train": 700, "val": 250, "test": 50}


def test_row_order_does_not_matter():
    strata, groups = [str(at % 7) for at in range(1000)], [at // 3 for at in range(1000)]
    for given in ({}, {"strata": strata}, {"groups": groups}, {"strata": strata, "groups": groups}):
        split = dict(zip(IDS, hash_split(IDS, **given), strict=True))
        order = np.random.default_rng(0).permutation(1000)
        moved = {name: [values[row] for row in order] for name, values in given.items()}
        again = dict(zip([IDS[row] for row in order], hash_split([IDS[row] for row in order], **moved), strict=True))
        assert split == again


def test_a_split_is_not_a_pattern_of_the_ids():
    split = hash_split(IDS)
    assert abs(np.flatnonzero(split == "test").mean() - 499.5) < 4 * 1000 / np.sqrt(12 * 100)


def test_each_stratum_gives_its_share():
    strata = ["a"] * 500 + ["b"] * 400 + ["c"] * 95 + [None] * 5
    split = hash_split(IDS, strata=strata)
    for name, size in (("a", 500), ("b", 400), ("c", 95), (None, 5)):
        found = Counter(split[[at for at, stratum in enumerate(strata) if stratum == name]].tolist())
        assert sum(found.values()) == size
        assert abs(found["val"] - size / 10) <= 1.5 and abs(found["test"] - size / 10) <= 1


def test_groups_stay_together_and_give_their_share():
    groups = [f"group {int(np.sqrt(at))}" for at in range(1000)]  # 1 to 63 rows
    split = hash_split(IDS, groups=groups, strata=["ab"[at % 2] for at in range(1000)])
    assert len(set(zip(groups, split.tolist(), strict=True))) == len(set(groups)) == 32
    by_group = dict(zip(groups, split.tolist(), strict=True))
    assert Counter(by_group.values()) == {"train": 26, "val": 3, "test": 3}


@pytest.mark.parametrize("count", [0, 1, 7, 999])
def test_so_many_rows(count):
    assert held_out(IDS, count=count).sum() == count


def test_training_is_never_empty():
    assert held_out(IDS, count=5000).sum() == 999
    assert hash_split(["a"]).tolist() == ["train"]
    assert sorted(hash_split(["a", "b"]).tolist()) == ["train", "val"]
    assert sorted(hash_split(["a", "b", "c"]).tolist()) == ["test", "train", "val"]
    assert len(hash_split([])) == 0


def test_two_names_hold_out_different_rows():
    first, second = held_out(IDS, share=0.1, name="val"), held_out(IDS, share=0.1, name="other")
    assert 0 < (first & second).sum() < 40


def test_validation_is_held_out_of_training_rows_only():
    given = np.array(["train"] * 800 + ["test"] * 200)
    split, note = with_validation(given, IDS)
    assert Counter(split.tolist()) == {"train": 720, "val": 80, "test": 200} and (split[800:] == "test").all()
    assert (given[:800] == "train").all() and np.array_equal(split[:800] == "val", held_out(IDS[:800], share=0.1))
    assert note is not None and "80 of 800 training rows" in note
    assert with_validation(split, IDS) == (split, None)
    assert with_validation(np.array(["train", "test"]), ["a", "b"])[0].tolist() == ["train", "test"]


def test_validation_that_is_held_out_has_whole_groups_and_all_strata():
    groups, strata = [at // 4 for at in range(1000)], ["abcde"[at // 4 % 5] for at in range(1000)]
    split, _ = with_validation(np.full(1000, "train", "<U5"), IDS, strata=strata, groups=groups)
    assert len(set(zip(groups, split.tolist(), strict=True))) == 250
    found = Counter(stratum for stratum, part in zip(strata, split.tolist(), strict=True) if part == "val")
    assert found == dict.fromkeys("abcde", 20)

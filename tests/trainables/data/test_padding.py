import numpy as np

from trainables.data.padding import pad_rows


def test_rows_are_padded_to_the_longest():
    values, mask = pad_rows([[5, 6], [], [7]], fill=9)
    assert values.tolist() == [[5, 6], [9, 9], [7, 9]]
    assert mask.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_empty_rows_become_one_long():
    values, mask = pad_rows([[], []])
    assert values.tolist() == mask.tolist() == [[0], [0]]


def test_entries_may_be_arrays():
    rows = [np.full((2, 3), 4, np.float16), np.full((1, 3), 5, np.float16)]
    values, _ = pad_rows(rows, shape=(3,), dtype=np.float16)
    assert values.numpy().dtype == np.float16
    assert values.tolist() == [[[4] * 3, [4] * 3], [[5] * 3, [0] * 3]]

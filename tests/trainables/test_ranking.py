import numpy as np
import pytest

from trainables.ranking import Ranking


def test_average_precision_groups_ties():
    scores, truth = np.array([[0.9], [0.8], [0.8], [0.1]]), np.array([[1], [0], [1], [0]], dtype=bool)
    assert Ranking(scores, truth).average_precision == pytest.approx([(1 / 1 + 2 / 3) / 2])


def test_average_precision_of_a_constant_is_the_share_of_positives():
    truth = np.array([[1, 1], [0, 0], [0, 1], [0, 0]], dtype=bool)
    assert Ranking(np.zeros((4, 2)), truth).average_precision.tolist() == [0.25, 0.5]


def random_scores(rng: np.random.Generator, num_rows: int, num_columns: int, *, has_ties: bool) -> np.ndarray:
    scores = rng.normal(scale=2, size=(num_rows, num_columns))
    return np.round(scores) if has_ties else scores


@pytest.mark.parametrize("has_ties", [False, True])
def test_roc_areas_count_the_pairs_in_order(has_ties):
    rng = np.random.default_rng(4)
    scores, truth = random_scores(rng, 30, 3, has_ties=has_ties), rng.random((30, 3)) < 0.4
    truth[:, 2] = True
    expected = []
    for column in range(2):
        above = scores[truth[:, column], column, None] - scores[~truth[:, column], column]
        expected.append(((above > 0) + 0.5 * (above == 0)).mean())
    assert Ranking(scores, truth).roc_areas == pytest.approx([*expected, np.nan], nan_ok=True)

import pytest

from analysis.preview import marked


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a red car", "a blue car", "a [blue] car"),
        ("Fast cars, please.", "Quick cars, please.", "[Quick] cars, please."),
        ("same", "same", "same"),
        ("", "", ""),
        (None, None, None),
        ("red", "blue", "[blue]"),
    ],
)
def test_replaced_words_are_marked(before, after, expected):
    assert marked(before, after) == expected

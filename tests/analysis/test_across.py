import pytest

from analysis.across import across, across_table, by_data

SNLI = {"dataset": "snli_ve", "objectives": [{"metric": "val_loss", "mode": "min"}]}


def test_families_stand_side_by_side_on_different_data(studies):
    """The better of two learning rates, its mean over two seeds; of val_loss the smallest is best."""
    art = studies.of(
        studies.trial(0, family="text", val_accuracy=0.6), studies.trial(1, family="fusion", val_accuracy=0.8),
        studies.trial(2, family="fusion", val_accuracy=0.7), name="art",
    )  # fmt: skip
    more = studies.of(studies.trial(0, family="image", val_accuracy=0.65), name="more")
    snli = studies.of(
        studies.trial(0, family="text", val_loss=0.4), studies.trial(1, family="fusion", val_loss=0.9),
        name="snli", **SNLI,
    )  # fmt: skip
    assert list(by_data([art, more, snli])) == ["openclipart, val_accuracy", "snli_ve, val_loss"]
    rows = across([art, more, snli])
    best = rows.loc[rows["is_best"]].set_index("data")
    assert best["family"].to_dict() == {"openclipart": "fusion", "snli_ve": "text"}
    assert best["value"].to_dict() == {"openclipart": pytest.approx(0.75), "snli_ve": 0.4}
    header, lines = across_table(rows)
    assert header == ["family", "openclipart: accuracy (val)", "snli_ve: loss (val)"]
    assert {line[0]: line[1:] for line in lines} == {
        "fusion": ["0.7500 ± 0.0707 (2) *", "0.9000"],
        "image": ["0.6500", ""],
        "text": ["0.6000", "0.4000 *"],
    }


def test_a_study_in_which_nothing_ended_is_left_out(studies):
    path = studies.of(studies.trial(0, state="FAILED", val_accuracy=None, best_epoch=None), name="s")
    with pytest.raises(ValueError, match="s: no trial has ended well yet"):
        across(path)

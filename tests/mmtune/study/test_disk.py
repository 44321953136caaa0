"""What a study's folder will take, before it starts (against real folders: test_keeping.py)."""

from __future__ import annotations

import math

import pytest

from mmtune.spec.search_spec import load_spec
from mmtune.study.disk import ModelSizes, first_trials, predict_disk

SEARCH = """\
study: s
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
fixed: {epochs: 12, max_text_len: 16, image_size: 32, model.text_encoder: tiny-bert, model.lock_text: false}
space:
  optim.lr: {type: float, low: 0.0001, high: 0.01, log: true}
  model.image_encoder: {type: categorical, choices: [tiny-cnn], when: {family: fusion}}
try_first: [{family: text}, {family: fusion}]
budget: {trials: 2}
"""


@pytest.fixture(scope="module")
def sizes():
    return ModelSizes(1)


@pytest.fixture(scope="module")
def predicted(sizes):
    """Bytes beyond those of the same study that keeps one trial."""

    def predict(*overrides):
        def over(*more):
            return predict_disk(load_spec(SEARCH, overrides=[*overrides, *more]), None, slots=2, sizes=sizes)

        one, found = over("keep={top: 1}").over, over()
        return found.running - one, found.over - one

    return predict


@pytest.fixture(scope="module")
def each(sizes):
    """Sizes of the two families' models."""
    spec = load_spec(SEARCH)
    params = {"optim.lr": 0.001}
    return [sizes.of(spec.trial_config({"family": "text", **params})),
            sizes.of(spec.trial_config({"family": "fusion", "model.image_encoder": "tiny-cnn", **params}))]  # fmt: skip


def test_what_stays_follows_keep(predicted, each):
    """Two trials, one of each family: 'best' and 'all' and the best two are both of them."""
    mean = sum(size.best_bytes for size in each) / 2
    for keep in ("best", "all", "{top: 2}", "{top: 9}"):
        assert predicted(f"keep={keep}")[1] == pytest.approx(mean, abs=2)
    assert predicted("keep={top: 1}")[1] == 0


@pytest.mark.slow
def test_all_of_many_trials(predicted, each, sizes):
    few, many = (predicted(f"budget.trials={num}", "keep=all")[1] for num in (8, 64))
    smaller, larger = sorted(size.best_bytes for size in each)
    assert 7 * smaller < few < 7 * larger and 63 * smaller < many < 63 * larger
    assert len(sizes) == 2  # optim.lr makes no other model


@pytest.mark.slow
def test_a_front_grows_by_the_logarithm(predicted, each):
    front = "objectives=[{metric: val_accuracy}, {metric: device_seconds}]"
    best, both = (predicted("budget.trials=64", *more)[1] for more in ((), (front,)))
    smaller, larger = sorted(size.best_bytes for size in each)
    assert (math.log(64) - 2) * smaller <= both - best <= (math.log(64) - 2) * larger


@pytest.mark.slow
def test_paused_trials_that_may_return_keep_both_and_stopped_ones_none(predicted, each):
    several = "objectives=[{metric: val_accuracy}, {metric: device_seconds}]"
    changes = [several], [], ["scheduler={name: asha_stopping}"]
    front, one, stopped = (predicted("budget.trials=64", *more)[0] for more in changes)
    smaller, larger = sorted(size.best_bytes + size.last_bytes for size in each)
    assert 40 * smaller < front < 64 * larger  # whose ranks may change: only those that were trained whole are over
    assert 10 * smaller < one < front / 1.5 and stopped < 4 * larger
    assert each[0].last_bytes == pytest.approx(3 * each[0].best_bytes, rel=0.01)


def test_without_a_number_of_trials_it_is_of_one(predicted, each):
    for_one = predicted("budget={device_hours: 1}")[0]
    assert for_one == pytest.approx(2 * each[0].last_bytes, rel=0.01)  # its best stays, and the last is being replaced


def test_models_that_were_built_before_leave_no_trial_out(monkeypatch):
    """The corners of a large space are: its trials are drawn all the same."""
    monkeypatch.setattr("mmtune.study.disk._MODELS", 2)
    spec, sizes = load_spec(SEARCH), ModelSizes(1)
    for length in (5, 6, 7):
        sizes.of(load_spec(SEARCH, overrides=[f"fixed.max_text_len={length}"]).trial_config({"family": "text"}))
    assert [one.config.family for one in first_trials(spec, None, count=2, sizes=sizes)] == ["text", "fusion"]
    assert len(sizes) == 5


def test_the_first_model_is_built_however_many_there_are(monkeypatch, each):
    """Trials that would need another are taken for trials like those that were built."""
    monkeypatch.setattr("mmtune.study.disk._MODELS", 0)
    sizes = ModelSizes(1)
    all_like_the_first = predict_disk(load_spec(SEARCH, overrides=["keep=all"]), None, slots=2, sizes=sizes)
    best = predict_disk(load_spec(SEARCH, overrides=["keep={top: 1}"]), None, slots=2, sizes=sizes)
    assert len(sizes) == 1
    assert all_like_the_first.over - best.over == pytest.approx(each[0].best_bytes, abs=2)

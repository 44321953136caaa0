import time

import pytest
import torch

from mmtune import records
from trainables import loop, measure
from trainables.clock import PARTS
from trainables.loop import setup
from trainables.ranks import Ranks
from trainables.step import clean_batch


@pytest.mark.slow
def test_costs_are_in_every_row_and_those_of_the_model_in_the_first(toy, tmp_path):
    outcome = loop.train(toy("fusion"), folder=tmp_path, report=lambda row: row["epoch"] == 1)  # stopped: it has them
    outcome = loop.train(toy("fusion"), folder=tmp_path)
    first, second = outcome.reports
    for row in outcome.reports:
        assert row["device_seconds"] == row["wall_seconds"] > 0 and row["peak_memory_gib"] > 0
        assert row["samples_per_second"] == pytest.approx(45 / row["train_seconds"])
        assert row["device_seconds"] == pytest.approx(row["setup_seconds"] + sum(row[name] for name in PARTS))
    assert min(second[name] for name in PARTS) > 0  # the first is from its checkpoint, which lacks its own writing
    assert first["num_parameters"] > first["num_trainable"] > 0 and "num_parameters" not in second
    assert all(first[name] > 0 and name not in second for name in records.INFERENCE)
    uncached = loop.train(toy("fusion", cache_features=False), folder=tmp_path / "uncached").reports[0]
    for name in ("num_parameters", "num_trainable", "inference_threads"):
        assert first[name] == uncached[name], name


@pytest.mark.slow
@pytest.mark.parametrize("uda", [{}, {"mode": "fixed"}, {"mode": "aug"}])
def test_samples_a_second_are_training_samples_in_the_time_of_training(uda, toy, tmp_path, monkeypatch):
    seconds, train_epoch, validate = [], loop.train_epoch, loop.validate

    def train_slowly(state, epoch):
        began = time.perf_counter()
        time.sleep(0.3)
        trained = train_epoch(state, epoch)
        seconds.append(time.perf_counter() - began)
        return trained

    def validate_slowly(state):
        time.sleep(0.5)
        return validate(state)

    monkeypatch.setattr(loop, "train_epoch", train_slowly)
    monkeypatch.setattr(loop, "validate", validate_slowly)
    row = loop.train(toy("image", epochs=1, uda=uda), folder=tmp_path).reports[0]
    assert row["samples_per_second"] == pytest.approx(45 / seconds[-1], rel=0.05)  # each once, copies or not


@pytest.mark.slow
@pytest.mark.parametrize("cache_features", [True, False])
def test_the_time_of_a_sample_is_what_another_clock_says(cache_features, toy, tmp_path):
    """The test times a model that has its encoders itself, over 21 rows and 11 of them again."""
    model = {"text_encoder": "tiny-bert", "image_encoder": "tiny-vit", "kind": "intermediate", "hidden": 32}
    given = {"model": model, "image_size": 32, "max_text_len": 64}
    state = setup(toy("fusion", cache_features=cache_features, **given), folder=tmp_path, ranks=Ranks())
    alone = setup(toy("fusion", cache_features=False, **given), folder=tmp_path, ranks=Ranks())
    rows, ratios = [*alone.data.rows["val"], *alone.data.rows["val"][:11]], []
    batch = clean_batch(alone, rows)
    alone.model.eval()

    def fastest(count):
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            alone.model(batch)
            seconds.append(time.perf_counter() - began)
        return sorted(seconds)[count // 2]

    for _ in range(20):  # others may be at work
        with torch.inference_mode():
            fastest(2)
            mine = 1000 * fastest(15) / 32
        measure._encoders.clear()  # of another moment
        found = measure.inference(state)
        ratios.append(found["inference_ms_per_sample"] / mine)
        if 0.7 < ratios[-1] < 1.4:
            break
    assert 0.7 < ratios[-1] < 1.4, ratios
    assert found["inference_ms_single"] > found["inference_ms_per_sample"]
    assert found["inference_ms_per_sample_iqr"] >= 0 and found["inference_threads"] == torch.get_num_threads()
    with torch.no_grad():
        state.model(clean_batch(state, rows))  # as it was before: it reads features again, if it did


def test_timing_the_model_is_bounded(toy, tmp_path, monkeypatch):
    state = setup(toy("image"), folder=tmp_path, ranks=Ranks())
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 0.3)  # a forward takes 0.3 s
    found = measure.inference(state)
    assert found["inference_ms_per_sample"] == pytest.approx(300 / 32, rel=1e-6)
    assert found["inference_ms_single"] == pytest.approx(300, rel=1e-6)
    assert found["inference_ms_single_iqr"] == pytest.approx(0, abs=1e-6)
    assert next(clock) == 20  # five forwards for each, two of them to warm up


def test_encoders_of_cached_features_are_timed_once_a_process_and_added(toy, tmp_path, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) * 0.3)  # a forward takes 0.3 s, whatever it is of
    monkeypatch.setattr(measure, "_encoders", {})
    for trial, forwards in (({}, 30), ({"optim": {"lr": 0.01}}, 10), ({"image_size": 24}, 20)):
        state = setup(toy("fusion", **trial), folder=tmp_path / str(forwards), ranks=Ranks())
        before = next(ticks)
        found = measure.inference(state)
        assert next(ticks) - before - 1 == 2 * forwards  # five of each: text, image and the rest; both sizes
        assert found["inference_ms_per_sample"] == pytest.approx(3 * 300 / 32, rel=1e-6)
        assert found["inference_ms_single"] == pytest.approx(3 * 300, rel=1e-6)

import pytest

from trainables import loop
from trainables.loop import setup
from trainables.measure import inference_ms
from trainables.ranks import Ranks


def test_costs_are_in_every_row_and_sizes_in_the_first(toy, tmp_path):
    outcome = loop.train(toy("fusion"), folder=tmp_path)
    first, second = outcome.reports
    for row in outcome.reports:
        assert row["device_seconds"] == row["wall_seconds"] > 0 and row["peak_memory_gib"] > 0
        assert row["samples_per_second"] == pytest.approx(45 / row["wall_seconds"])
    assert first["num_parameters"] > first["num_trainable"] > 0 and "num_parameters" not in second
    uncached = loop.train(toy("fusion", cache_features=False), folder=tmp_path / "uncached").reports[0]
    for name in ("num_parameters", "num_trainable"):
        assert first[name] == uncached[name], name


def test_timing_the_model_is_bounded(toy, tmp_path, monkeypatch):
    state = setup(toy("image"), folder=tmp_path, ranks=Ranks())
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) * 0.3)  # a forward takes 0.3 s
    assert inference_ms(state) == pytest.approx(300 / 21, rel=1e-6)
    assert next(clock) == 8  # four forwards, one of them to warm up

"""A trial that does not fit is cut into smaller forwards before it is given up; a hook in it plays the full device."""

import pytest
import torch

from trainables import loop, step
from trainables.checkpoint import LAST, load_checkpoint
from trainables.errors import OutOfMemoryError
from trainables.ranks import Ranks

FULL = torch.cuda.OutOfMemoryError


class Device:
    """One on which no more than so many rows train at a time, from a call on; it notes what was tried."""

    def __init__(self, monkeypatch, *, rows, since=0):
        self.tried, forward = [], step.forward

        def limited(state, loaded, uda):
            self.tried.append(loaded.num_rows)
            if loaded.num_rows > rows and len(self.tried) > since:
                raise FULL("CUDA out of memory. Tried to allocate 2.00 GiB\nsecond line")
            return forward(state, loaded, uda)

        monkeypatch.setattr(step, "forward", limited)


def config_of(toy, **given):
    return toy("image", model={"dropout": 0.0}, optim={"lr": 1e-3}, **given)


@pytest.mark.slow
def test_it_trains_as_with_a_micro_batch_that_fits(toy, unmeasured, tmp_path, monkeypatch):
    whole = loop.train(config_of(toy), folder=tmp_path / "whole", ranks=Ranks()).reports
    asked = config_of(toy, micro_batch_size=2, eval_batch_size=64)
    fits = loop.train(asked, folder=tmp_path / "asked", ranks=Ranks()).reports
    device = Device(monkeypatch, rows=3)
    with pytest.warns(UserWarning, match="out of memory with [84] rows at a time .* it goes on with half as many"):
        found = loop.train(config_of(toy), folder=tmp_path / "found", ranks=Ranks()).reports
    assert device.tried[0] > 3 and max(device.tried[2:]) == 2
    assert [row["forward_rows"] for row in found] == [2, 2] and whole[0]["forward_rows"] == 8
    for row in found:
        row.pop("forward_rows")
    fits[0].pop("forward_rows")
    assert unmeasured(found) == unmeasured(fits)  # to the last digit
    for row, expected in zip(found, whole, strict=True):  # and as the whole batch, to rounding
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)
    assert load_checkpoint(tmp_path / "found" / LAST)[1]["config"]["micro_batch_size"] is None  # it is the same trial


@pytest.mark.slow
def test_what_it_came_to_holds_when_it_goes_on_and_nothing_is_reported_twice(toy, unmeasured, tmp_path, monkeypatch):
    config, steps = config_of(toy, epochs=4), len(step_rows(toy, tmp_path))
    device = Device(monkeypatch, rows=4, since=2 * steps + 1)  # full in the second step of the third epoch
    seen = []
    with pytest.warns(UserWarning, match="out of memory with 8 rows"):
        whole = loop.train(config, folder=tmp_path / "a", ranks=Ranks(), report=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3, 4] and device.tried[-1] <= 4
    device.tried.clear()
    with pytest.warns(UserWarning, match="out of memory with 8 rows"):
        stopped = loop.train(config, folder=tmp_path / "b", ranks=Ranks(), report=lambda row: row["epoch"] == 3)
    assert stopped.reason == "stopped"
    device.tried[:] = [0] * 10**6  # full from its first step on; it does not come to that
    again = loop.train(config, folder=tmp_path / "b", ranks=Ranks())
    assert unmeasured(again.reports) == unmeasured(whole.reports)


def step_rows(toy, tmp_path):
    state = loop.setup(config_of(toy), folder=tmp_path / "none", ranks=Ranks())
    return step.epoch_batches(state.config, state.data, 1)


def test_what_never_fits_is_given_up_at_one_row(toy, tmp_path, monkeypatch):
    device = Device(monkeypatch, rows=0)
    with pytest.warns(UserWarning), pytest.raises(OutOfMemoryError, match="^out of memory on cpu: CUDA out of memory"):
        loop.train(config_of(toy, eval_batch_size=4), folder=tmp_path, ranks=Ranks())
    assert device.tried[-3:] == [4, 2, 1]


def test_a_model_that_does_not_fit_by_itself_is_given_up_at_once(toy, tmp_path, monkeypatch):
    def full(*_, **__):
        raise FULL("CUDA out of memory.")

    monkeypatch.setattr(loop, "build_model", full)
    with pytest.raises(OutOfMemoryError, match="out of memory on cpu: CUDA out of memory"):
        loop.train(config_of(toy), folder=tmp_path, ranks=Ranks())


def test_rows_that_a_batch_norm_has_to_see_together_are_not_cut(toy, tmp_path, monkeypatch):
    config = toy("image", model={"dropout": 0.0, "image_encoder": "tiny-resnet"})
    device = Device(monkeypatch, rows=3)
    with pytest.raises(OutOfMemoryError, match="out of memory on cpu"):
        loop.train(config, folder=tmp_path, ranks=Ranks())
    assert min(device.tried) > 4  # whole batches alone: of the rehearsal and of the trial

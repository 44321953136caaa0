"""What a study will take: the arithmetic between probes, epochs and budgets, and a probe of a real corner."""

from __future__ import annotations

import pytest

from mmtune.cli import study as cli
from mmtune.info import read_info
from mmtune.slots.cluster import Node
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.disk import Drawn, Game, ModelSizes, first_trials, play
from mmtune.study.forecast import Probed, corner_ends, forecast, probe_corners, work_of
from mmtune.study.memory import Memory, predict_memory
from mmtune.study.plan import make_plan
from trainables.model import ModelSize

SEARCH = """\
study: s
family: fusion
dataset: openclipart
fixed:
  epochs: 6
  batch_size: 32
  max_train_rows: 64
  max_text_len: 16
  image_size: 32
  model.text_encoder: tiny-bert
  model.image_encoder: tiny-cnn
  model.lock_text: false
  model.lock_image: false
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  model.hidden: {type: int, low: 16, high: 256}
  uda.mode: {type: categorical, choices: ["none", fixed]}
scheduler: {name: none}
budget: {trials: 4}
resources: {concurrent_trials: 2}
"""


def spec_of(*overrides):
    return load_spec(SEARCH, overrides=overrides)


def drawn_of(spec, *sizes):
    """Trials of these trainable parameters."""
    config = spec.trial_config({"optim.lr": 1e-3, "model.hidden": 32, "uda.mode": "none"})
    return [Drawn(config, ModelSize(size, size, 0)) for size in sizes]


def probed(spec, work, *, epoch, memory=1.0, first=7.0, setup=1.0, once=2.0):
    config = drawn_of(spec, 1)[0].config
    return Probed("fusion", work, config, first, setup, once, epoch, memory)


def test_trials_between_the_corners_cost_what_lies_between_and_budgets_buy_what_they_pay_for():
    spec = spec_of()
    drawn = drawn_of(spec, 100, 200, 200, 300)  # of work 300, 600, 600, 900
    corners = [probed(spec, 300.0, epoch=1.0), probed(spec, 900.0, epoch=3.0, memory=2.0)]
    games = [Game(0, [6, 6, 6, 6], [1, 1, 1, 1]), Game(0, [6, 2, 2, 6], [1, 1, 1, 2])]
    found = forecast(spec, drawn, games, None, slots=2, probed=corners, start_seconds=10.0)
    first = 4 * (2 + 1) + 6 * (1 + 2 + 2 + 3)  # once and setup of each, epochs by price
    second = 4 * 2 + 5 * 1 + 6 * 1 + 2 * 2 + 2 * 2 + 6 * 3
    seconds = (first + second) / 2 + 2 * 6  # two slots load their libraries
    assert (found.trials, found.epochs, found.peak_memory_gib) == (4, 20, 2.0)
    assert found.device_hours == pytest.approx(seconds / 3600)
    assert found.wall_hours == pytest.approx((seconds / 2 + 5 * 10) / 3600)
    half = spec_of("budget={device_hours: 0.01}")
    bought = forecast(half, drawn, games, None, slots=2, probed=corners, start_seconds=10.0)
    assert bought.trials == pytest.approx(4 * 36 / ((first + second) / 2))
    assert bought.epochs == pytest.approx(5 * (bought.trials or 0))


def test_without_probes_nothing_is_said_of_time():
    spec = spec_of()
    found = forecast(spec, drawn_of(spec, 2**28), [Game(0, [6], [1])], Memory(2**32), slots=1)
    assert found.device_hours is None and found.wall_hours is None and not found.is_probed
    assert found.peak_memory_gib == 4.0 and "device_hours" not in found.to_json()


@pytest.mark.slow
def test_trials_and_the_folder_are_those_that_the_budget_buys():
    """Of hours, without probes, nobody knows how many trials they buy, so neither is foretold."""
    nodes, asha = [Node(2, 0, 8)], "scheduler={name: asha, grace_epochs: 2, reduction_factor: 4}"

    def plan(*overrides):
        return make_plan(spec_of(asha, "keep=all", *overrides), nodes, is_brief=True)

    unknown = plan("budget={device_hours: 1}")
    assert unknown.forecast.to_json().keys() == {"is_probed", "peak_memory_gib"}
    assert cli._trials_of(unknown).startswith("as many as the time buys") and "for each trial" in cli._disk(unknown)

    by_trials = plan("budget={trials: 64}")
    by_epochs = plan(f"budget={{epochs: {round(by_trials.forecast.epochs)}}}")
    both = plan("budget={trials: 640, epochs: 20}")
    assert by_epochs.forecast.trials == pytest.approx(64, rel=0.02)
    for found in (by_trials, by_epochs, both):
        assert found.forecast.disk_gib == found.disk.over / 2**30 and "for each" not in cli._disk(found)
        assert found.disk.over == pytest.approx(by_trials.disk.over * (found.forecast.trials or 0) / 64, rel=0.1)


@pytest.mark.slow
def test_memory_is_worked_out_for_the_dearest_of_each_family():
    """A wider head takes more, and copies of UDA, which double the rows: the dearest counts, wherever it is drawn."""
    large = ("fixed.image_size=64", "fixed.batch_size=64", "fixed.eval_batch_size=8")
    spec, sizes = spec_of(*large), ModelSizes(1)

    def memory(*settings, spec=spec, **how):
        configs = [spec.trial_config({"optim.lr": 1e-3, **one}) for one in settings]
        return predict_memory(spec, [Drawn(config, sizes.of(config)) for config in configs], **how)

    small, wide = {"model.hidden": 16, "uda.mode": "none"}, {"model.hidden": 256, "uda.mode": "none"}
    copies = {**wide, "uda.mode": "fixed"}
    assert memory(small).peak < memory(wide).peak < memory(copies).peak == memory(copies, small, wide).peak
    assert memory(copies, small, wide, is_brief=True) == memory(copies)
    assert memory(wide).unknown == ()
    on_gpu = memory(wide, spec=spec_of(*large, "resources={gpus_per_worker: 1}")).peak
    assert 0 < on_gpu < memory(wide).peak


def test_what_cannot_be_worked_out_is_said(monkeypatch):
    spec = spec_of()

    def refuse(*_, **__):
        raise NotImplementedError("aten.nonzero")

    monkeypatch.setattr("trainables.footprint.footprint", refuse)
    drawn = drawn_of(spec, 2**28)
    memory = predict_memory(spec, drawn)
    assert memory == Memory(16 * 2**28, ("fusion (aten.nonzero)",))  # weights, gradients and two moments
    found = forecast(spec, drawn, [Game(0, [6], [1])], memory, slots=1)
    assert found.to_json()["without_activations"] == ("fusion (aten.nonzero)",)
    said = "(the dearest, worked out with its activations, without those of fusion (aten.nonzero))"
    assert cli._memory(found).endswith(said)


def test_epochs_are_those_of_the_schedule():
    spec = spec_of("scheduler={name: asha, grace_epochs: 2, reduction_factor: 3}", "budget.trials=9")
    sizes = ModelSizes(1)
    drawn = first_trials(spec, None, count=9, sizes=sizes)
    for game in play(spec, drawn, slots=1):
        assert sorted(game.epochs) == [2] * 6 + [6] * 3  # rungs 2 and 6; of nine three go on
        assert [jobs for epochs, jobs in sorted(zip(game.epochs, game.jobs, strict=True))] == [1] * 6 + [2] * 3
    assert work_of(drawn[0].config, sizes) > 0


@pytest.mark.slow
def test_a_study_is_created_with_what_was_measured_at_its_corners(tmp_path):
    plan = make_plan(spec_of(), [Node(2, 0, 8)], probes=True)
    about = plan.forecast
    assert about.is_probed and (about.trials, about.epochs) == (4, 24)
    assert about.wall_hours is not None and about.device_hours is not None and 0 < about.device_hours < 1
    assert 0.001 < about.peak_memory_gib < 0.5
    folder = create_study(plan.spec, storage=tmp_path, forecast=about)
    assert read_info(folder.info)["plan"] == about.to_json()


def test_the_cheapest_and_the_dearest_corner_are_probed():
    (low, cheap), (high, dear) = corner_ends(spec_of(), None, ModelSizes(1))
    assert low < high / 2
    assert (cheap.model.hidden, cheap.uda.mode) == (16, "none") and (dear.model.hidden, dear.uda.mode) == (256, "fixed")
    assert len(corner_ends(spec_of("space={optim.lr: {type: float, low: 0.1, high: 0.2}}"), None, ModelSizes(1))) == 1


@pytest.mark.slow
def test_a_corner_that_cannot_train_here_says_why():
    spec = spec_of("fixed.precision=fp16")
    with pytest.raises(ValueError, match="--probe: fusion at a corner of the space: precision"):
        probe_corners(spec, None, ModelSizes(1))

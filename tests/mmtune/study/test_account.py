"""Where a whole study's time went: trials, caches and idle slots are all of it."""

import time

import pytest

from analysis.studies import study_cost
from mmtune import records
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.run import run_study
from trainables.clock import PARTS

SEARCH = """\
study: s
family: fusion
dataset: openclipart
fixed:
  {epochs: 3, batch_size: 16, max_text_len: 32, image_size: 32, model.text_encoder: tiny-bert, model.lock_text: false}
space:
  model.image_encoder: {type: categorical, choices: [tiny-cnn, tiny-vit]}
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
budget: {trials: 6}
resources: {workers: 1, cpus_per_worker: 1, concurrent_trials: 2}
"""


@pytest.mark.slow
def test_trials_caches_and_idle_slots_are_all_the_time_of_two_slots(tmp_path, monkeypatch):
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    folder = create_study(load_spec(SEARCH), storage=tmp_path)
    began = time.time()
    assert run_study(folder, say=lambda line: None).is_complete
    wall = time.time() - began

    trials, reports, caches = (records.read_rows(path) for path in (folder.trials, folder.reports, folder.caches))
    held, filled = (sum(row["device_seconds"] for row in rows) for rows in (trials, caches))
    idle = records.read_json(folder.info)["sessions"][0]["idle_device_seconds"]
    print(f"two slots x {wall:.1f} s: trials {held:.1f}, caches {filled:.1f}, idle {idle:.1f}")
    assert min(held, filled, idle) > 0
    assert held + filled + idle == pytest.approx(2 * wall, rel=0.1)
    cost = study_cost(folder.root)
    assert cost.device_hours == pytest.approx((held + filled) / 3600)
    assert (cost.cache_hours, cost.idle_hours) == (pytest.approx(filled / 3600), pytest.approx(idle / 3600))

    for row in trials + reports:
        assert sum(row[name] for name in (*PARTS, "setup_seconds")) == pytest.approx(row["device_seconds"])
    assert all(row[name] > 0 for row in reports for name in PARTS)
    for trial in trials:
        assert trial["device_seconds"] > sum(
            row["device_seconds"] for row in reports if row["trial"] == trial["trial"]
        )  # giving back takes time too
        assert trial["device_seconds_alone"] == pytest.approx(trial["device_seconds"] + trial["cache_seconds"])
        assert trial["cache_seconds"] > 0
    made = [row["what"] for row in caches if row["rows"]]
    assert any("features" in what or "image of" in what for what in made) and len(set(made)) == len(made)  # once each

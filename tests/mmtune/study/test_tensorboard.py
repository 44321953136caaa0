"""Event files: what TensorBoard reads in them."""

import base64
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import load_spec
from mmtune.study.ledger import Ledger
from mmtune.study.tensorboard import param_kinds, write_pictures

tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
SPEC = """\
study: s
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2}
  optim.grad_clip: {type: categorical, choices: [null, 1.0]}
  model.lock_text: {type: categorical, choices: [true, false]}
  model.kind: {type: categorical, choices: [early, late], when: {family: fusion}}
budget: {trials: 2}
"""


def make(tmp_path):
    kinds = param_kinds(load_spec(SPEC).space)
    return Ledger(StudyFolder(tmp_path), objective=("val_accuracy", "max"), params=kinds, max_epochs=3)


def test_what_values_of_a_parameter_are():
    kinds = param_kinds(load_spec(SPEC).space)
    assert kinds == {
        "family": "word", "optim.lr": "number", "optim.grad_clip": "word", "model.lock_text": "flag",
        "model.kind": "word",
    }  # fmt: skip


def test_tensorboard_has_a_run_a_trial_with_hparams(tmp_path):
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text", "optim.lr": 1e-3})
    ledger.add("t0000", {"epoch": 1, "val_accuracy": 0.4, "device_seconds": 1.0})
    ledger.add("t0000", {"epoch": 2, "val_accuracy": 0.7, "device_seconds": 1.0})
    ledger.end("t0000", records.PRUNED)
    events = tensorboard.EventAccumulator(str(tmp_path / "tensorboard" / "t0000"))
    events.Reload()
    scalars = events.Scalars("val/accuracy")
    assert [event.step for event in scalars] == [1, 2]
    assert [event.value for event in scalars] == pytest.approx([0.4, 0.7])
    assert events.Scalars("total/device_seconds")[-1].value == 2.0
    hparams = events.summary_metadata["_hparams_/session_start_info"]
    assert b"optim.lr" in hparams.plugin_data.content
    assert "_hparams_/experiment" not in events.summary_metadata  # the tab would take the first trial's for all


@pytest.mark.slow
def test_the_hparams_tab_has_all_parameters_and_metrics(tmp_path):
    """As TensorBoard's page asks its own server, of a study in two sessions whose first trial lacks a parameter."""
    given = [
        {"family": "text", "optim.lr": 1e-3, "optim.grad_clip": None, "model.lock_text": True},
        {"family": "fusion", "optim.lr": 2e-3, "optim.grad_clip": 1.0, "model.lock_text": False, "model.kind": "late"},
    ]
    for number, params in enumerate(given):
        ledger = make(tmp_path)
        ledger.start(f"t{number}", params)
        row = {"epoch": 1, "val_accuracy": 0.5 + number / 4, "val_loss": 1.0, "device_seconds": 2.0}
        ledger.add(f"t{number}", {**row, "wall_seconds": 1.0, "num_parameters": 7})
        ledger.end(f"t{number}", records.COMPLETE, facts={"num_trainable": 5})
        ledger.close()
    experiment, groups = ask_tensorboard(tmp_path / "tensorboard", num_sessions=2)
    assert {info["name"]: info["type"] for info in experiment["hparamInfos"]} == {
        "family": "DATA_TYPE_STRING", "optim.lr": "DATA_TYPE_FLOAT64", "optim.grad_clip": "DATA_TYPE_STRING",
        "model.lock_text": "DATA_TYPE_BOOL", "model.kind": "DATA_TYPE_STRING", "state": "DATA_TYPE_STRING",
    }  # fmt: skip
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"best/val_accuracy", "best/val_loss", "total/device_seconds", "cost/num_trainable"} <= metrics
    found = {group["sessions"][0]["name"]: group for group in groups}
    for number, params in enumerate(given):
        shown = {**params, "state": records.COMPLETE, "optim.grad_clip": ["null", "1.0"][number]}
        assert found[f"t{number}"]["hparams"] == shown
        values = {one["name"]["tag"]: one["value"] for one in found[f"t{number}"]["metricValues"]}
        assert values["best/val_accuracy"] == 0.5 + number / 4 and values["total/device_seconds"] == 2.0
        assert (values["cost/num_parameters"], values["cost/num_trainable"]) == (7, 5)


def ask_tensorboard(folder, *, num_sessions):
    """The experiment and the session groups of the HParams tab, from a process that serves them on loopback."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            port = next(found[1] for line in process.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            for _ in range(120):
                experiment = ask(port, "experiment", {"experimentName": ""})
                if experiment is not None:
                    columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
                    columns += [{"metric": info["name"]} for info in experiment["metricInfos"]]
                    wanted = {"colParams": columns, "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0}
                    groups = ask(port, "session_groups", {**wanted, "sliceSize": 100, "experimentName": ""})
                    if groups is not None and len(groups.get("sessionGroups", ())) == num_sessions:
                        return experiment, groups["sessionGroups"]
                time.sleep(0.5)
            raise AssertionError("TensorBoard did not load the study")
        finally:
            process.kill()


def ask(port, what, body):
    url = f"http://127.0.0.1:{port}/data/plugin/hparams/{what}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None  # nothing loaded yet


def test_pictures_of_the_report_take_the_place_of_older_ones(tmp_path):
    png = base64.b64decode(
        b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNiAAAABgADNjd8qAAAAABJRU5ErkJggg=="
    )
    write_pictures(tmp_path, {"old": png})
    write_pictures(tmp_path, {"pareto": png, "curves": png})
    found = tensorboard.EventAccumulator(str(tmp_path / "report"))
    found.Reload()
    assert found.Tags()["images"] == ["pareto", "curves"]
    (image,) = found.Images("pareto")
    assert (image.width, image.height, image.encoded_image_string) == (1, 1, png)

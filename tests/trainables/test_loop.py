import shutil
import weakref
from dataclasses import replace
from importlib import import_module

import numpy as np
import pyarrow.parquet
import pytest
import torch

from trainables import loop, testing
from trainables.checkpoint import BEST, LAST, load_checkpoint
from trainables.data.cache.identity import dataset_key
from trainables.data.open import open_data
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.errors import NonFiniteError
from trainables.evaluate import PREDICTIONS
from trainables.loop import setup
from trainables.ranks import Ranks

EXACT = {  # everything that resume has to carry over, spread over the families
    "text": ("text", {}, {"uda": {"mode": "dynamic"}, "patience": 3, "micro_batch_size": 3}),
    "image": ("image", {"image_encoder": "tiny-vit"}, {"target": "many", "objective": "val_ap_micro"}),
    "early": ("fusion", {}, {"uda": {"mode": "dynamic", "n": 9, "views": "image"}, "target": "number"}),
    "late": ("fusion", {"kind": "late", "merge": "prob_weighted", "lock_text": False}, {"uda": {"mode": "dynamic"}}),
    "whole": ("lit_tirg", {}, {"uda": {"mode": "dynamic"}, "patience": 2, "batch_size": 16}),
    "joint": ("lit_tirg", {"joint_layers": 1, "tirg_norm": "layer"}, {"uda": {"mode": "dynamic", "k": 3}}),
}


def exact_config(toy, name):
    family, model, given = EXACT[name]
    if given.get("target") == "number":
        given = {**given, "objective": "val_rmse"}
    optim = {"lr": 3e-3, "schedule": "plateau", "plateau_patience": 0}
    return toy(family, model=model, epochs=4, optim=optim, **given)


@pytest.fixture(scope="module")
def resumed(toy, in_new_processes, tmp_path_factory):
    """Each of EXACT, and two killed trials, straight through in this process and with a break, over two processes."""
    config = exact_config(toy, "late")
    folders = {name: tmp_path_factory.mktemp(name) for name in [*EXACT, "step", "save"]}
    for name in EXACT:
        outcome = loop.train(
            exact_config(toy, name), folder=folders[name], report=lambda row: row["epoch"] == 2, ranks=Ranks()
        )
        assert outcome.reason == "stopped" and len(outcome.reports) == 2
    for how in ("step", "save"):
        job = {"config": config.to_dict(), "folder": str(folders[how]), "kill": how}
        assert in_new_processes([job]) == [[]]  # it died
    jobs = [{"config": exact_config(toy, name).to_dict(), "folder": str(folders[name])} for name in EXACT]
    jobs += [{"config": config.to_dict(), "folder": str(folders[how])} for how in ("step", "save")]
    return folders, dict(zip(folders, in_new_processes(jobs)[0], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EXACT, "step", "save"])
def test_a_resumed_trial_is_the_uninterrupted_one_to_the_last_digit(name, toy, resumed, unmeasured, tmp_path):
    folders, outs = resumed
    straight = loop.train(exact_config(toy, name if name in EXACT else "late"), folder=tmp_path, ranks=Ranks())
    assert "error" not in outs[name], outs[name]
    assert unmeasured(outs[name]["rows"]) == unmeasured(straight.reports)
    assert outs[name]["reason"] == straight.reason
    for file in (LAST, BEST):
        tensors, ours = load_checkpoint(folders[name] / file)[0], load_checkpoint(tmp_path / file)[0]
        assert tensors.keys() == ours.keys() and all(tensors[key].equal(ours[key]) for key in ours)
    predictions = [pyarrow.parquet.read_table(folder / PREDICTIONS) for folder in (folders[name], tmp_path)]
    assert predictions[0].equals(predictions[1])
    assert not list(folders[name].glob(".*"))  # no half-written file is left


@pytest.mark.slow
def test_what_a_damaged_checkpoint_held_is_trained_again_to_the_last_digit(toy, unmeasured, tmp_path):
    config, rows = exact_config(toy, "late"), []
    straight = loop.train(config, folder=tmp_path / "straight", ranks=Ranks())
    loop.train(config, folder=tmp_path / "hit", report=lambda row: row["epoch"] == 2, ranks=Ranks())
    last = tmp_path / "hit" / LAST
    last.write_bytes(last.read_bytes()[:-1000] + bytes(1000))

    def report(row):
        rows.append(row)
        return False

    with pytest.warns(UserWarning, match="last.safetensors: not a checkpoint .* trained again"):
        again = loop.train(config, folder=tmp_path / "hit", ranks=Ranks(), report=report, known_epoch=2)
    assert unmeasured(again.reports) == unmeasured(straight.reports) == unmeasured(rows)
    for file in (LAST, BEST):
        ours, theirs = (load_checkpoint(tmp_path / run / file)[0] for run in ("straight", "hit"))
        assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def test_a_single_rank_keeps_its_own_error(toy, tmp_path):
    known = "objective 'val_rmse' does not exist for a multiclass task. Known: val_accuracy, .*, val_loss"
    with pytest.raises(ValueError, match=known):
        loop.train(toy("image", objective="val_rmse"), folder=tmp_path)
    with pytest.raises(ValueError, match="objective 'accuracy' does not exist"):
        loop.train(toy("image", objective="accuracy"), folder=tmp_path)
    with pytest.raises(ValueError, match="loss.label_smoothing: belongs to multiclass tasks, this is multilabel"):
        config = toy("image", target="many", objective="val_loss", loss={"label_smoothing": 0.1})
        loop.train(config, folder=tmp_path)
    with pytest.raises(ValueError, match="loss.class_weight: belongs to multiclass tasks, this is regression"):
        loop.train(toy("image", target="number", objective="val_mae", loss={"class_weight": True}), folder=tmp_path)
    with pytest.raises(ValueError, match="uda.confidence: has no meaning for a regression"):
        uda = {"mode": "fixed", "confidence": 0.5}
        loop.train(toy("image", target="number", objective="val_mae", uda=uda), folder=tmp_path)
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        loop.train(toy("image", precision="fp16"), folder=tmp_path, ranks=Ranks())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"target": "many", "objective": "val_loss"}, {"uda": {"mode": "fixed"}}])
def test_micro_batches_give_the_same_training(given, toy, tmp_path):
    model, optim = {"dropout": 0.0}, {"lr": 1e-3}
    rows = [
        loop.train(
            toy("image", model=model, optim=optim, micro_batch_size=size, **given), folder=tmp_path / str(size)
        ).reports
        for size in (None, 3)
    ]
    for whole, parts in zip(*rows, strict=True):
        for key in ("train_loss", "train_supervised", "val_loss"):
            assert parts[key] == pytest.approx(whole[key], rel=1e-4), key


@pytest.mark.slow
def test_rows_of_dynamic_uda_follow_the_formula(toy, tmp_path):
    n, k, lam = 7, 3, 0.5
    uda, loss = {"mode": "dynamic", "n": n, "k": k, "lam": lam}, {"class_weight": True, "label_smoothing": 0.1}
    config = toy("text", epochs=5, optim={"lr": 3e-3}, uda=uda, loss=loss)
    rows = loop.train(config, folder=tmp_path).reports
    assert [row["uda_case"] for row in rows[:2]] == ["warmup"] * 2
    assert all(
        (row["uda_lambda"], row["uda_q_v"], row["uda_q_t"], row["uda_ratio"]) == (lam, 1, 1, 1) for row in rows[:2]
    )
    for before, last, row in zip(rows, rows[1:], rows[2:], strict=False):
        assert last["val_supervised"] != last["val_loss"]
        q_v = (1 + last["val_supervised"]) / (1 + before["val_supervised"])
        q_t = (1 + last["train_accuracy"]) / (1 + before["train_accuracy"])
        assert row["uda_q_v"] == pytest.approx(q_v) and row["uda_q_t"] == pytest.approx(q_t)
        assert row["uda_ratio"] == pytest.approx(q_v**n * q_t**k)
        assert row["uda_lambda"] == pytest.approx(lam * q_v**n * q_t**k)
    for row in rows:
        expected = row["train_supervised"] + row["uda_lambda"] * row["train_consistency"]
        assert row["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_fresh_copies_change_every_epoch_and_not_otherwise(toy, tmp_path):
    model = {"lock_image": True, "lock_text": True, "kind": "late"}
    uda = {"mode": "fixed", "copies": "fresh", "text_replace": 0.5}
    state = setup(toy("fusion", model=model, uda=uda), folder=tmp_path, ranks=Ranks())
    data, rows = state.data, np.arange(20)
    first, again, second = (data.batch(rows, data.augmented, epoch=epoch) for epoch in (1, 1, 2))
    for batch in (first, second):
        assert batch.text_features is None and batch.image_features is None  # no constants: the encoders run
    assert first.input_ids.equal(again.input_ids) and first.pixel_values.equal(again.pixel_values)
    assert not first.pixel_values.equal(second.pixel_values)
    assert first.input_ids.shape != second.input_ids.shape or not first.input_ids.equal(second.input_ids)
    alone = data.batch(rows[5:7], data.augmented, epoch=1)  # a row's copy does not depend on the batch it is in
    assert alone.pixel_values.equal(first.pixel_values[5:7])
    only = toy("fusion", model=model, uda={**uda, "views": "text"})
    data = setup(only, folder=tmp_path, ranks=Ranks()).data
    assert data.clean.image_features is not None and data.clean.text_features is None
    straight = loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "a").reports
    loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "b", report=lambda row: True)
    resumed = loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "b").reports
    assert [row["train_loss"] for row in resumed] == [row["train_loss"] for row in straight]


@pytest.mark.slow
def test_gradient_checkpointing_changes_memory_alone(toy, tmp_path):
    settings = {"model": {"text_encoder": "tiny-bert"}, "optim": {"lr": 1e-3}, "epochs": 1}
    rows = [
        loop.train(toy("text", gradient_checkpointing=on, **settings), folder=tmp_path / str(on)).reports[0]
        for on in (False, True)
    ]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-6)  # dropout is drawn again alike
    assert rows[0]["val_loss"] == pytest.approx(rows[1]["val_loss"], rel=1e-6)
    with pytest.raises(ValueError, match="gradient_checkpointing: nothing that trains in this 'image' supports it"):
        loop.train(toy("image", gradient_checkpointing=True), folder=tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own compiler
def test_a_compiled_model_trains_alike(toy, tmp_path):
    settings = {"model": {"kind": "late", "dropout": 0.0}, "optim": {"lr": 1e-3}}
    rows = [
        loop.train(toy("fusion", compile=on, **settings), folder=tmp_path / str(on)).reports for on in (False, True)
    ]
    for plain, compiled in zip(*rows, strict=True):
        for key in ("train_loss", "val_loss"):
            assert compiled[key] == pytest.approx(plain[key], rel=1e-4), key


@pytest.mark.slow
@pytest.mark.parametrize("family", ["fusion", "text", "image", "lit_tirg"])
def test_regression_through_the_loop(family, toy, tmp_path):
    """Rows carry the error itself; dynamic lambda is fed 1 / (1 + error in deviations), losses are of deviations."""
    uda = {"mode": "dynamic", "n": 1, "k": 2}
    config = toy(family, target="number", objective="val_mae", epochs=5, optim={"lr": 3e-3}, uda=uda)
    outcome = loop.train(config, folder=tmp_path)
    rows = outcome.reports
    assert rows[-1]["val_rmse"] < rows[0]["val_rmse"]
    data = open_data(config)
    std = data.labels[data.rows["train"]].std()
    assert (rows[-1]["val_rmse"] / std) ** 2 == pytest.approx(rows[-1]["val_loss"], rel=1e-5)
    assert outcome.best_epoch == min(rows, key=lambda row: row["val_mae"])["epoch"]
    q_v = (1 + rows[1]["val_loss"]) / (1 + rows[0]["val_loss"])
    q_t = (1 + 1 / (1 + rows[1]["train_mae"] / std)) / (1 + 1 / (1 + rows[0]["train_mae"] / std))
    assert rows[2]["uda_lambda"] == pytest.approx(q_v * q_t**2)
    predictions = pyarrow.parquet.read_table(tmp_path / PREDICTIONS).to_pydict()
    errors = np.array(predictions["logits"])[:, 0] - np.array(predictions["label"])
    assert np.abs(errors).mean() == pytest.approx(rows[outcome.best_epoch - 1]["val_mae"], rel=1e-5)


@pytest.mark.slow
def test_a_regression_learns_labels_of_any_scale(toy, tmp_path, monkeypatch):
    """Prices and seconds since 1970 are learnt as the same labels of scale 1 are, to float32's rounding."""
    plain = load_table(DatasetRef("toy"))
    errors = []
    for name, factor, offset in (("one", 1.0, 0.0), ("prices", 50_000.0, 250_000.0), ("seconds", 30.0, 1.7e9)):
        target = plain.targets["number"]
        scaled = replace(target, labels=target.labels.astype(np.float64) * factor + offset)
        monkeypatch.setitem(plain.targets, "number", scaled)
        config = toy("fusion", target="number", objective="val_rmse", epochs=4, optim={"lr": 1e-2})
        rows = loop.train(config, folder=tmp_path / name).reports
        monkeypatch.undo()
        constant = scaled.labels[plain.split == "val"] - scaled.labels[plain.split == "train"].mean()
        assert rows[-1]["val_rmse"] < np.sqrt((constant**2).mean()) / 2
        errors.append([row["val_rmse"] / factor for row in rows])
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-3)
    np.testing.assert_allclose(errors[2], errors[0], rtol=1e-3)


def test_lr_of_a_row_is_the_schedules_at_its_last_step(toy, tmp_path):
    optim = {"lr": 2e-3, "schedule": "linear", "warmup_ratio": 0.25, "head_lr_mult": 3.0}
    rows = loop.train(toy("image", epochs=4, optim=optim), folder=tmp_path).reports  # six steps an epoch
    expected = [1.0, 1 - 5 / 18, 1 - 11 / 18, 1 - 17 / 18]
    assert [row["lr"] for row in rows] == pytest.approx([2e-3 * factor for factor in expected])


@pytest.mark.slow
def test_epochs_that_the_caller_does_not_know_are_reported_again(toy, tmp_path):
    config = toy("image", epochs=4)
    loop.train(config, folder=tmp_path, report=lambda row: row["epoch"] == 3)
    seen = []
    loop.train(config, folder=tmp_path, report=lambda row: bool(seen.append(row["epoch"])), known_epoch=1)
    assert seen == [2, 3, 4]
    assert loop.train(config, folder=tmp_path, report=lambda row: bool(seen.append(row["epoch"]))).reason == "epochs"
    assert seen == [2, 3, 4]  # finished: nothing is trained or reported


def test_each_step_tells_how_far_its_epoch_is(toy, tmp_path):
    told = []
    loop.train(toy("image", epochs=2), folder=tmp_path, tell=lambda *said: told.append(said))
    total = told[0][2]
    for epoch in ("epoch 1/2", "epoch 2/2"):
        done = [rows for what, rows, _ in told if what == epoch]
        assert len(done) == 6 and done == sorted(set(done)) and done[-1] == total  # six steps an epoch
    assert {said[2] for said in told} == {total}


@pytest.mark.parametrize("given", [{}, {"checkpoint_every_seconds": 0.0}])
def test_a_folder_that_vanishes_is_not_made_anew(given, toy, tmp_path):
    """Its study was removed, or a disk is gone: what a worker wrote then would be nobody's, below a mount point."""
    folder = tmp_path / "study" / "trials" / "t0000"

    def remove(what, done, total):
        if what == "epoch 2/2":
            shutil.rmtree(tmp_path / "study", ignore_errors=True)

    with pytest.raises(FileNotFoundError, match="t0000"):
        loop.train(toy("image", **given), folder=folder, tell=remove)  # its first epoch has made it
    assert not any(tmp_path.iterdir())


def test_a_stop_after_the_last_epoch_is_no_stop(toy, tmp_path):
    outcome = loop.train(toy("image"), folder=tmp_path, report=lambda row: row["epoch"] == 2)
    assert outcome.reason == "epochs" and outcome.facts["num_parameters"] > 0


def test_a_checkpoint_of_another_configuration_is_refused(toy, tmp_path):
    loop.train(toy("image", epochs=1), folder=tmp_path)
    with pytest.raises(ValueError, match="last.safetensors: belongs to another configuration; different: model.hidden"):
        loop.train(toy("image", epochs=1, model={"hidden": 7}), folder=tmp_path)


def test_a_checkpoint_of_other_data_is_refused(toy, tmp_path, monkeypatch):
    config = toy("image", epochs=1)
    loop.train(config, folder=tmp_path)
    (tmp_path / "changed").write_text("x")
    monkeypatch.setattr(import_module("toy_dataset"), "sources", lambda data_dir: [tmp_path / "changed"])
    dataset_key.cache_clear()  # as in another process
    with pytest.raises(ValueError, match="last.safetensors: belongs to other data; the files of dataset toy have chan"):
        loop.train(config, folder=tmp_path)
    with pytest.raises(ValueError, match="best.safetensors: belongs to other data"):
        testing.test_best(config, folder=tmp_path)
    dataset_key.cache_clear()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_rows_whatever_ran_before(toy, tmp_path, unmeasured):
    config = toy("lit_tirg", epochs=1)
    torch.manual_seed(5)
    first = loop.train(config, folder=tmp_path / "first").reports
    loop.train(toy("fusion", epochs=1, seed=7), folder=tmp_path / "between")
    assert unmeasured(loop.train(config, folder=tmp_path / "second").reports) == unmeasured(first)
    other = loop.train(toy("lit_tirg", epochs=1, seed=2), folder=tmp_path / "other").reports
    assert other[0]["val_loss"] != first[0]["val_loss"]


def test_a_finished_trial_leaves_no_model_behind(toy, tmp_path, monkeypatch):
    """A warm worker serves many trials: its memory must not wait for the garbage collector."""
    alive = []
    build = loop.build_model

    def watched(*args):
        model = build(*args)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(loop, "build_model", watched)
    loop.train(toy("image", epochs=1), folder=tmp_path)
    assert [reference() for reference in alive] == [None]


def test_lambda_that_overflows_ends_the_trial(toy, tmp_path):
    state = setup(toy("image", uda={"mode": "dynamic", "n": 100}), folder=tmp_path, ranks=Ranks())
    state.uda.load_state_dict({"history": [[0.0, 0.5], [1e9, 0.5]]})
    with pytest.raises(NonFiniteError, match="epoch 1: uda: lambda overflows"):
        loop.fit_epoch(state)


def test_an_lr_that_explodes_ends_the_trial(toy, tmp_path):
    optim = {"lr": 10.0, "grad_clip": None, "warmup_ratio": 0.0, "head_lr_mult": 1000.0, "image_lr_mult": 1000.0}
    config = toy("image", target="number", objective="val_loss", epochs=50, optim=optim)
    with pytest.raises(NonFiniteError):
        loop.train(config, folder=tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_and_resumes(precision, toy, tmp_path):
    ranks = Ranks(device=torch.device("cuda", 0))
    config = toy("fusion", model={"lock_image": False}, epochs=4, precision=precision)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=ranks).reports
    loop.train(config, folder=tmp_path / "twice", ranks=ranks, report=lambda row: row["epoch"] == 2)
    twice = loop.train(config, folder=tmp_path / "twice", ranks=ranks).reports
    assert twice[-1]["val_loss"] == pytest.approx(straight[-1]["val_loss"], rel=1e-2)
    assert 0 < straight[0]["peak_memory_gib"] < 8

import math
import threading
import weakref
from importlib import import_module

import numpy as np
import pyarrow.parquet
import pytest
import torch

from trainables import loop
from trainables.batch import ModelOutput
from trainables.checkpoint import load_checkpoint, load_state
from trainables.data.cache.prepare import dataset_key
from trainables.metrics import compute_metrics
from trainables.uda import LambdaState

EXACT = {  # everything that resume has to carry over, spread over the families
    "text": ("text", {}, {"uda": {"mode": "dynamic"}, "patience": 3, "micro_batch_size": 3}),
    "image": ("image", {"image_encoder": "tiny-vit"}, {"target": "many", "objective": "val_ap_micro"}),
    "early": ("fusion", {}, {"uda": {"mode": "dynamic", "n": 9, "views": "image"}, "target": "number"}),
    "late": ("fusion", {"kind": "late", "merge": "weighted", "lock_text": False}, {"uda": {"mode": "dynamic"}}),
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
            exact_config(toy, name), folder=folders[name], report=lambda row: row["epoch"] == 2, ranks=loop.Ranks()
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
    straight = loop.train(exact_config(toy, name if name in EXACT else "late"), folder=tmp_path, ranks=loop.Ranks())
    assert "error" not in outs[name], outs[name]
    assert unmeasured(outs[name]["rows"]) == unmeasured(straight.reports)
    assert outs[name]["reason"] == straight.reason
    for file in (loop.LAST, loop.BEST):
        tensors, ours = load_checkpoint(folders[name] / file)[0], load_checkpoint(tmp_path / file)[0]
        assert tensors.keys() == ours.keys() and all(tensors[key].equal(ours[key]) for key in ours)
    predictions = [pyarrow.parquet.read_table(folder / loop.PREDICTIONS) for folder in (folders[name], tmp_path)]
    assert predictions[0].equals(predictions[1])
    assert not list(folders[name].glob(".*"))  # no half-written file is left


def test_fp16_scaler_is_resumed_too(toy, tmp_path, monkeypatch, unmeasured):
    def precision(name, device):
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=5)
        return loop.nullcontext, scaler

    monkeypatch.setattr(loop, "_precision", precision)
    config = toy("text", epochs=3)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=loop.Ranks())
    loop.train(config, folder=tmp_path / "twice", ranks=loop.Ranks(), report=lambda row: row["epoch"] == 1)
    scaler = load_state(tmp_path / "twice" / loop.LAST)["scaler"]
    assert scaler["scale"] == 128.0 and scaler["_growth_tracker"] == 1  # six steps
    twice = loop.train(config, folder=tmp_path / "twice", ranks=loop.Ranks())
    assert unmeasured(twice.reports) == unmeasured(straight.reports)
    assert load_state(tmp_path / "twice" / loop.LAST)["scaler"]["scale"] == 64.0 * 2**3


# --- several ranks -------------------------------------------------------------------------------
PLAIN = {"dropout": 0.0, "text_encoder": "tiny-bert"}
RANKS = {
    "text": ("text", {**PLAIN, "lock_text": True}, {"batch_size": 7}),
    "micro": ("text", {**PLAIN, "lock_text": True}, {"batch_size": 7, "micro_batch_size": 2}),
    "tags": ("image", {"dropout": 0.0}, {"target": "many", "objective": "val_loss", "uda": {"mode": "dynamic"}}),
    "fusion": ("fusion", {"dropout": 0.0, "kind": "late", "merge": "weighted", "lock_image": False}, {"batch_size": 9}),
}


def ranks_config(toy, name):
    family, model, given = RANKS[name]
    return toy(family, model=model, optim={"lr": 1e-3}, **given)


def batch_norm_config(toy):
    return toy("lit_tirg", model={"joint_layers": 1, "tirg_norm": "batch"}, optim={"lr": 1e-3})


@pytest.fixture(scope="module")
def two_ranks(toy, in_new_processes, tmp_path_factory):
    """RANKS on two gloo ranks, and between them jobs that one rank cannot do."""
    alone = ["fails", "behind", "nan", "small", "tirg", "norm"]
    folders = {name: tmp_path_factory.mktemp(name) for name in [*alone, *RANKS]}  # in the order of the jobs
    image = toy("image")
    jobs = [{"config": image.to_dict(), "folder": str(folders["fails"]), "fail_rank": 1}]
    loop.train(image, folder=folders["behind"], ranks=loop.Ranks())
    jobs.append({"config": image.to_dict(), "folder": [str(folders["behind"]), str(folders["behind"] / "nothing")]})
    jobs.append({"config": image.to_dict(), "folder": str(folders["nan"]), "nan_rank": 1})
    jobs.append({"config": toy("image", batch_size=1).to_dict(), "folder": str(folders["small"])})
    tirg = toy("lit_tirg", model={"lock_image": False, "fusion": "none"})
    jobs.append({"config": tirg.to_dict(), "folder": str(folders["tirg"]), "test": True})
    jobs.append({"config": batch_norm_config(toy).to_dict(), "folder": str(folders["norm"])})
    jobs += [{"config": ranks_config(toy, name).to_dict(), "folder": str(folders[name])} for name in RANKS]
    outs = in_new_processes(jobs, world=2)
    return folders, dict(zip(folders, map(list, zip(*outs, strict=True)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", RANKS)
def test_two_ranks_train_as_one(name, toy, two_ranks, tmp_path):
    folders, outs = two_ranks
    config = ranks_config(toy, name)
    alone = loop.train(config, folder=tmp_path, ranks=loop.Ranks()).reports
    first, second = outs[name]
    assert "error" not in first, first
    assert first == second  # every rank has the same outcome, timings included
    for row, expected in zip(first["rows"], alone, strict=True):
        for key in ("train_loss", "train_supervised", "val_loss", "lr"):
            assert row[key] == pytest.approx(expected[key], rel=1e-4), key
    assert all(row["device_seconds"] == 2 * row["wall_seconds"] for row in first["rows"])
    ids = pyarrow.parquet.read_table(folders[name] / loop.PREDICTIONS)["id"].to_pylist()
    assert ids == [f"row-{row}" for row in range(45, 66)]


@pytest.mark.slow
def test_two_ranks_evaluate_the_batch_norm_statistics_that_they_save(toy, two_ranks):
    """Each rank's own differ; a row must be of the model in the checkpoint."""
    folders, outs = two_ranks
    trial = loop._Trial(batch_norm_config(toy), folder=folders["norm"], ranks=loop.Ranks())
    loss, _, _, _ = trial.evaluate("val")
    assert outs["norm"][0]["rows"][-1]["val_loss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.slow
def test_an_error_of_one_rank_is_raised_by_all_and_the_group_goes_on(two_ranks):
    _, outs = two_ranks
    for out in outs["fails"]:
        assert out == {"error": "AgreedError", "text": "rank 1: ValueError: nothing works here"}
    for out in outs["behind"]:
        assert out["error"] == "AgreedError" and "is of epoch 0, but rank 0 found epoch 2" in out["text"]
    for out in outs["nan"]:
        assert out["error"] == "NonFiniteError"
    for out in outs["small"]:
        assert out["error"] == "AgreedError" and "batches of 1 rows, which 2 workers cannot share" in out["text"]
    assert all(out["reason"] == "epochs" and math.isfinite(out["test_loss"]) for out in outs["tirg"])


@pytest.mark.slow
def test_three_ranks_evaluate_each_row_once_even_if_a_rank_has_none(toy, in_new_processes, tmp_path):
    config = toy("image", model={"dropout": 0.0}, epochs=1)
    job = {"config": config.to_dict(), "folder": str(tmp_path / "three"), "test": True}  # two rows in split test
    three = [outs[0] for outs in in_new_processes([job], world=3)]
    alone = loop.train(config, folder=tmp_path / "one", ranks=loop.Ranks()).reports
    tested = loop.test_best(config, folder=tmp_path / "one", ranks=loop.Ranks())
    for out in three:
        assert out["rows"][0]["val_loss"] == pytest.approx(alone[0]["val_loss"], rel=1e-5)
        assert out["test_loss"] == pytest.approx(tested["test_loss"], rel=1e-5)
    ids = pyarrow.parquet.read_table(tmp_path / "three" / loop.PREDICTIONS)["id"].to_pylist()
    assert ids == [f"row-{row}" for row in range(45, 66)]


def test_a_single_rank_keeps_its_own_error(toy, tmp_path):
    with pytest.raises(ValueError, match="objective 'val_rmse' does not exist for a multiclass task. Known: val_loss"):
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
        loop.train(toy("image", precision="fp16"), folder=tmp_path, ranks=loop.Ranks())
    assert not list(tmp_path.iterdir())


# --- what a step, an epoch and a row are ---------------------------------------------------------
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


def test_validation_loss_is_the_mean_over_samples(toy, tmp_path):
    config = toy("image", eval_batch_size=4, epochs=1, loss={"label_smoothing": 0.2, "class_weight": True})
    trial = loop._Trial(config, folder=tmp_path, ranks=loop.Ranks())
    loss, metrics, logits, rows = trial.evaluate("val")
    labels = trial.data.labels[rows]
    counts = np.bincount(trial.data.labels[trial.data.rows["train"]])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    each = -log_p[np.arange(len(rows)), labels] * (counts.sum() / (3 * counts))[labels]
    assert loss == pytest.approx(each.mean(), rel=1e-5)  # weighted as in training, without smoothing
    assert rows.tolist() == list(range(45, 66))
    assert metrics == compute_metrics(logits, labels, trial.task)


def test_rows_of_dynamic_uda_follow_the_formula(toy, tmp_path):
    n, k, lam = 7, 3, 0.5
    config = toy("text", epochs=5, optim={"lr": 3e-3}, uda={"mode": "dynamic", "n": n, "k": k, "lam": lam})
    rows = loop.train(config, folder=tmp_path).reports
    assert [row["uda_case"] for row in rows[:2]] == ["warmup"] * 2
    assert all(
        (row["uda_lambda"], row["uda_q_v"], row["uda_q_t"], row["uda_ratio"]) == (lam, 1, 1, 1) for row in rows[:2]
    )
    for before, last, row in zip(rows, rows[1:], rows[2:], strict=False):
        q_v = (1 + last["val_loss"]) / (1 + before["val_loss"])
        q_t = (1 + last["train_accuracy"]) / (1 + before["train_accuracy"])
        assert row["uda_q_v"] == pytest.approx(q_v) and row["uda_q_t"] == pytest.approx(q_t)
        assert row["uda_ratio"] == pytest.approx(q_v**n * q_t**k)
        assert row["uda_lambda"] == pytest.approx(lam * q_v**n * q_t**k)
    for row in rows:
        expected = row["train_supervised"] + row["uda_lambda"] * row["train_consistency"]
        assert row["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_both_views_go_through_the_model_once(toy, tmp_path, monkeypatch):
    trial = loop._Trial(toy("image", uda={"mode": "fixed"}), folder=tmp_path, ranks=loop.Ranks())
    sizes = []
    trial.model.register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].size))
    rows = trial.data.rows["train"][:5]
    terms, logits, clean_rows = trial._forward(trial._load(rows, 1), LambdaState(2.0, 1.0, 1.0, 1.0, "fixed"))
    assert sizes == [10] and len(logits) == 5 and clean_rows.tolist() == rows.tolist()
    assert terms["train_loss"].item() == pytest.approx(
        (terms["train_supervised"] + 2 * terms["train_consistency"]).item()
    )


def test_aug_trains_on_every_row_and_its_copy(toy, tmp_path):
    config = toy("fusion", uda={"mode": "aug", "views": "text"}, batch_size=8)
    trial = loop._Trial(config, folder=tmp_path, ranks=loop.Ranks())
    batches = trial._batches(1)
    assert sorted(np.concatenate(batches)) == [*range(45), *range(68, 68 + 45)]  # 68 rows in all
    assert len(batches) == 12 == trial.steps_per_epoch  # ceil(90 / 8)
    seen = []
    trial.model.register_forward_hook(lambda module, inputs, out: seen.append((inputs[0], out)))
    rows = np.array([3, 68 + 3, 68 + 7])
    terms, logits, clean_rows = trial._forward(trial._load(rows, 1), LambdaState(0.0, 1.0, 1.0, 1.0, "none"))
    (batch, out), data = seen[0], trial.data
    assert clean_rows.tolist() == [3] and len(logits) == 1 and batch.ids == ["row-3", "row-3", "row-7"]
    clean, copy = data.batch(np.array([3]), data.clean), data.batch(np.array([3, 7]), data.augmented)
    assert batch.text_features[:1].equal(clean.text_features) and batch.text_features[1:].equal(copy.text_features)
    expected = torch.nn.functional.cross_entropy(out.logits, torch.from_numpy(data.labels[[3, 3, 7]]))
    assert terms.keys() == {"train_loss", "train_supervised"}
    assert terms["train_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    row = loop.train(config, folder=tmp_path, ranks=loop.Ranks()).reports[0]
    assert "uda_lambda" not in row and "train_consistency" not in row


def test_batches_made_ahead_are_the_same_in_the_same_order(toy, tmp_path, monkeypatch):
    config = toy("fusion", uda={"mode": "dynamic"}, micro_batch_size=3)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=loop.Ranks()).reports
    threads = set()
    init, load = loop._Trial.__init__, loop._Trial._load

    def with_a_thread(self, *args, **given):
        init(self, *args, **given)
        self.depth = 2

    def noted(self, *args):
        threads.add(threading.current_thread())
        return load(self, *args)

    monkeypatch.setattr(loop._Trial, "__init__", with_a_thread)
    monkeypatch.setattr(loop._Trial, "_load", noted)
    made_ahead = loop.train(config, folder=tmp_path / "ahead", ranks=loop.Ranks()).reports
    assert [row["train_loss"] for row in made_ahead] == [row["train_loss"] for row in straight]
    assert [row["val_loss"] for row in made_ahead] == [row["val_loss"] for row in straight]
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_what_goes_wrong_ahead_is_raised_where_it_is_needed(depth):
    made = loop.ahead(lambda item: 6 // item, [3, 2, 0, 1], depth=depth)
    assert next(made) == 2 and next(made) == 3
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert list(loop.ahead(str, range(5), depth=depth)) == list("01234")


def test_fresh_copies_change_every_epoch_and_not_otherwise(toy, tmp_path):
    model = {"lock_image": True, "lock_text": True, "kind": "late"}
    uda = {"mode": "fixed", "copies": "fresh", "text_replace": 0.5}
    trial = loop._Trial(toy("fusion", model=model, uda=uda), folder=tmp_path, ranks=loop.Ranks())
    data, rows = trial.data, np.arange(20)
    first, again, second = (data.batch(rows, data.augmented, epoch=epoch) for epoch in (1, 1, 2))
    for batch in (first, second):
        assert batch.text_features is None and batch.image_features is None  # no constants: the encoders run
    assert first.input_ids.equal(again.input_ids) and first.pixel_values.equal(again.pixel_values)
    assert not first.pixel_values.equal(second.pixel_values)
    assert first.input_ids.shape != second.input_ids.shape or not first.input_ids.equal(second.input_ids)
    alone = data.batch(rows[5:7], data.augmented, epoch=1)  # a row's copy does not depend on the batch it is in
    assert alone.pixel_values.equal(first.pixel_values[5:7])
    only = toy("fusion", model=model, uda={**uda, "views": "text"})
    data = loop._Trial(only, folder=tmp_path, ranks=loop.Ranks()).data
    assert data.clean.image_features is not None and data.clean.text_features is None
    straight = loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "a").reports
    loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "b", report=lambda row: True)
    resumed = loop.train(toy("fusion", model=model, uda=uda), folder=tmp_path / "b").reports
    assert [row["train_loss"] for row in resumed] == [row["train_loss"] for row in straight]


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


@pytest.mark.parametrize("family", ["fusion", "text", "image", "lit_tirg"])
def test_regression_through_the_loop(family, toy, tmp_path):
    """Rows carry the error itself; dynamic lambda is fed 1 / (1 + error)."""
    uda = {"mode": "dynamic", "n": 1, "k": 2}
    config = toy(family, target="number", objective="val_mae", epochs=5, optim={"lr": 3e-3}, uda=uda)
    outcome = loop.train(config, folder=tmp_path)
    rows = outcome.reports
    assert rows[-1]["val_rmse"] < rows[0]["val_rmse"]
    assert rows[-1]["val_rmse"] ** 2 == pytest.approx(rows[-1]["val_loss"], rel=1e-5)
    assert outcome.best_epoch == min(rows, key=lambda row: row["val_mae"])["epoch"]
    q_v = (1 + rows[1]["val_loss"]) / (1 + rows[0]["val_loss"])
    q_t = (1 + 1 / (1 + rows[1]["train_mae"])) / (1 + 1 / (1 + rows[0]["train_mae"]))
    assert rows[2]["uda_lambda"] == pytest.approx(q_v * q_t**2)
    predictions = pyarrow.parquet.read_table(tmp_path / loop.PREDICTIONS).to_pydict()
    errors = np.array(predictions["logits"])[:, 0] - np.array(predictions["label"])
    assert np.abs(errors).mean() == pytest.approx(rows[outcome.best_epoch - 1]["val_mae"], rel=1e-5)


def test_the_training_metric_is_the_objectives_or_the_first(toy, tmp_path):
    rows = loop.train(toy("image", objective="val_macro_f1", epochs=1), folder=tmp_path / "a").reports
    assert "train_macro_f1" in rows[0] and "train_accuracy" not in rows[0]
    rows = loop.train(toy("image", objective="val_loss", target="many", epochs=1), folder=tmp_path / "b").reports
    assert "train_ap_micro" in rows[0]


def test_lr_of_a_row_is_the_schedules_at_its_last_step(toy, tmp_path):
    optim = {"lr": 2e-3, "schedule": "linear", "warmup_ratio": 0.25, "head_lr_mult": 3.0}
    rows = loop.train(toy("image", epochs=4, optim=optim), folder=tmp_path).reports  # six steps an epoch
    expected = [1.0, 1 - 5 / 18, 1 - 11 / 18, 1 - 17 / 18]
    assert [row["lr"] for row in rows] == pytest.approx([2e-3 * factor for factor in expected])


# --- best, patience, plateau ---------------------------------------------------------------------
def scripted(monkeypatch, config, folder, values, *, name="accuracy"):
    """A trial whose validation gives these values, one an epoch."""
    trial = loop._Trial(config, folder=folder, ranks=loop.Ranks())
    real = trial.evaluate("val")
    series = iter(values)

    def evaluate(split):
        value = next(series)
        return (value if name == "loss" else 1.0), {**real[1], name: value}, real[2], real[3]

    monkeypatch.setattr(trial, "evaluate", evaluate)
    return trial.run(None)


def test_patience_counts_epochs_without_strict_improvement(toy, tmp_path, monkeypatch):
    values = [0.5, 0.5, 0.6, 0.6, 0.55, 0.9]
    outcome = scripted(monkeypatch, toy("image", epochs=9, patience=2), tmp_path, values)
    assert (outcome.reason, outcome.best_epoch, len(outcome.reports)) == ("patience", 3, 5)
    state = load_state(tmp_path / loop.BEST)
    assert state["epoch"] == 3 and state["report"]["val_accuracy"] == 0.6


def test_losses_are_minimised(toy, tmp_path, monkeypatch):
    config = toy("image", epochs=4, objective="val_loss")
    outcome = scripted(monkeypatch, config, tmp_path, [0.5, 0.4, 0.4, 0.6], name="loss")
    assert (outcome.reason, outcome.best_epoch) == ("epochs", 2)
    modes = {name: loop.objective_mode(name) for name in ("val_loss", "val_rmse", "val_mae", "val_ap_micro")}
    assert modes == {"val_loss": "min", "val_rmse": "min", "val_mae": "min", "val_ap_micro": "max"}


def test_plateau_reduces_the_lr_at_the_first_bad_epoch_beyond_its_patience(toy, tmp_path, monkeypatch):
    optim = {"lr": 1e-3, "schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.1, "warmup_ratio": 0.0}
    values = [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.1]  # bad: 2, 3 (reduced), 4, 5 (reduced), 7
    outcome = scripted(monkeypatch, toy("image", epochs=7, optim=optim), tmp_path, values)
    expected = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    assert [row["lr"] for row in outcome.reports] == pytest.approx(expected)


def test_test_best_evaluates_the_best_epoch(toy, tmp_path):
    """A constant schedule makes a shorter trial the beginning of a longer one."""
    optim = {"lr": 0.03, "schedule": "constant", "warmup_ratio": 0.0}
    long = loop.train(toy("image", epochs=8, optim=optim, objective="val_loss"), folder=tmp_path / "long")
    assert 1 < long.best_epoch < 8, [row["val_loss"] for row in long.reports]
    short = toy("image", epochs=long.best_epoch, optim=optim, objective="val_loss")
    loop.train(short, folder=tmp_path / "short")
    trial = loop._Trial(short, folder=tmp_path / "short", ranks=loop.Ranks())  # goes on from the last epoch
    loss, metrics, _, _ = trial.evaluate("test")
    expected = {"test_loss": loss, **{f"test_{name}": value for name, value in metrics.items()}}
    config = toy("image", epochs=8, optim=optim, objective="val_loss")
    (tmp_path / "long" / loop.LAST).unlink()  # the best one is all that is needed
    assert loop.test_best(config, folder=tmp_path / "long") == expected


def test_test_best_says_what_is_missing(toy, tmp_path):
    with pytest.raises(ValueError, match="best.safetensors: not a checkpoint"):
        loop.test_best(toy("image"), folder=tmp_path)
    loop.train(toy("image", epochs=1), folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to another configuration; different: optim.lr, seed"):
        loop.test_best(toy("image", epochs=1, seed=2, optim={"lr": 1e-5}), folder=tmp_path)


# --- reporting and going on ----------------------------------------------------------------------
def test_epochs_that_the_caller_does_not_know_are_reported_again(toy, tmp_path):
    config = toy("image", epochs=4)
    loop.train(config, folder=tmp_path, report=lambda row: row["epoch"] == 3)
    seen = []
    loop.train(config, folder=tmp_path, report=lambda row: bool(seen.append(row["epoch"])), known_epoch=1)
    assert seen == [2, 3, 4]
    assert loop.train(config, folder=tmp_path, report=lambda row: bool(seen.append(row["epoch"]))).reason == "epochs"
    assert seen == [2, 3, 4]  # finished: nothing is trained or reported


def test_a_stop_after_the_last_epoch_is_no_stop(toy, tmp_path):
    outcome = loop.train(toy("image"), folder=tmp_path, report=lambda row: row["epoch"] == 2)
    assert outcome.reason == "epochs" and "inference_ms_per_sample" in outcome.facts


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
        loop.test_best(config, folder=tmp_path)
    dataset_key.cache_clear()


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
    trial = loop._Trial(toy("image"), folder=tmp_path, ranks=loop.Ranks())
    clock = iter(range(1000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock) * 0.3)  # a forward takes 0.3 s
    assert trial._inference_ms() == pytest.approx(300 / 21, rel=1e-6)
    assert next(clock) == 8  # four forwards, one of them to warm up


# --- when numbers go wrong -----------------------------------------------------------------------
def poisoned(monkeypatch, value, *, at):
    """The supervised loss of the ``at``-th training step onwards times ``value``."""
    calls = {"steps": 0}
    real = loop._Trial._supervised

    def supervised(self, logits, labels, *, smoothing=True):
        calls["steps"] += smoothing
        loss = real(self, logits, labels, smoothing=smoothing)
        return loss * value if smoothing and calls["steps"] >= at else loss

    monkeypatch.setattr(loop._Trial, "_supervised", supervised)
    return calls


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_gradient_ends_the_trial_at_once_and_spares_the_checkpoint(value, toy, tmp_path, monkeypatch):
    calls = poisoned(monkeypatch, value, at=9)
    with pytest.raises(loop.NonFiniteError, match="the gradient became nan or infinite in epoch 2, step 3"):
        loop.train(toy("image"), folder=tmp_path, ranks=loop.Ranks())
    assert calls["steps"] == 9
    for file in (loop.LAST, loop.BEST):
        tensors, state = load_checkpoint(tmp_path / file)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert load_state(tmp_path / loop.LAST)["progress"]["epoch"] == 1


def test_an_lr_that_explodes_ends_the_trial(toy, tmp_path):
    optim = {"lr": 10.0, "grad_clip": None, "warmup_ratio": 0.0, "head_lr_mult": 1000.0, "image_lr_mult": 1000.0}
    config = toy("image", target="number", objective="val_loss", epochs=50, optim=optim)
    with pytest.raises(loop.NonFiniteError):
        loop.train(config, folder=tmp_path)


def test_bad_validation_logits_end_the_trial(toy, tmp_path, monkeypatch):
    trial = loop._Trial(toy("image"), folder=tmp_path, ranks=loop.Ranks())
    trial.model.register_forward_hook(lambda module, inputs, out: ModelOutput(logits=out.logits * math.inf))
    with pytest.raises(loop.NonFiniteError, match="val logits became nan or infinite"):
        trial.evaluate("val")


def test_lambda_that_overflows_ends_the_trial(toy, tmp_path):
    trial = loop._Trial(toy("image", uda={"mode": "dynamic", "n": 100}), folder=tmp_path, ranks=loop.Ranks())
    trial.uda.load_state_dict({"history": [[0.0, 0.5], [1e9, 0.5]]})
    with pytest.raises(loop.NonFiniteError, match="epoch 1: uda: lambda overflows"):
        trial._epoch(1)


def test_fp16_skips_an_overflow_but_not_for_ever(toy, tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    monkeypatch.setattr(loop, "_precision", lambda name, device: (loop.nullcontext, scaler))
    trial = loop._Trial(toy("image", batch_size=4), folder=tmp_path, ranks=loop.Ranks())
    weight = next(parameter for parameter in trial.model.parameters() if parameter.requires_grad)
    handle = weight.register_hook(lambda grad: grad * math.inf)
    before = weight.detach().clone()
    with pytest.raises(loop.NonFiniteError, match="however small fp16 scales the loss, epoch 1, step 5"):
        trial._epoch(1)  # 16, 8, 4, 2, 1: the fifth overflow takes the scale below 1
    assert weight.equal(before) and not (tmp_path / loop.LAST).exists()
    handle.remove()
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**10})
    once = weight.register_hook(lambda grad: grad * math.inf if scaler.get_scale() == 2.0**10 else grad)
    trial._epoch(1)  # one overflow, then it trains
    once.remove()
    assert scaler.get_scale() == 2.0**9 and not weight.equal(before)


# --- a GPU, where there is one -------------------------------------------------------------------
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_and_resumes(precision, toy, tmp_path):
    ranks = loop.Ranks(device=torch.device("cuda", 0))
    config = toy("fusion", model={"lock_image": False}, epochs=4, precision=precision)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=ranks).reports
    loop.train(config, folder=tmp_path / "twice", ranks=ranks, report=lambda row: row["epoch"] == 2)
    twice = loop.train(config, folder=tmp_path / "twice", ranks=ranks).reports
    assert twice[-1]["val_loss"] == pytest.approx(straight[-1]["val_loss"], rel=1e-2)
    assert 0 < straight[0]["peak_memory_gib"] < 8

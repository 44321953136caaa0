import math

import pyarrow.parquet
import pytest

from trainables import loop, testing
from trainables.evaluate import PREDICTIONS, evaluate
from trainables.loop import setup
from trainables.model import model_size
from trainables.ranks import Ranks, is_lost_peer

PLAIN = {"dropout": 0.0, "text_encoder": "tiny-bert"}


RANKS = {
    "text": ("text", {**PLAIN, "lock_text": True}, {"batch_size": 7}),
    "micro": ("text", {**PLAIN, "lock_text": True}, {"batch_size": 7, "micro_batch_size": 2}),
    "tags": ("image", {"dropout": 0.0}, {"target": "many", "objective": "val_loss", "uda": {"mode": "dynamic"}}),
    "fusion": (
        "fusion",
        {"dropout": 0.0, "kind": "late", "merge": "logit_weighted", "lock_image": False},
        {"batch_size": 9},
    ),
}


def ranks_config(toy, name):
    family, model, given = RANKS[name]
    return toy(family, model=model, optim={"lr": 1e-3}, **given)


NORMS = {  # rows that see each other: by a BatchNorm in the middle of a model, or in the loss
    "tirg": ("lit_tirg", {"dropout": 0.0}, {"batch_size": 15}),  # the default norm
    "tirg in parts": ("lit_tirg", {"dropout": 0.0}, {"batch_size": 15, "micro_batch_size": 2}),
    "tirg with copies": (
        "lit_tirg", {"dropout": 0.0}, {"batch_size": 15, "micro_batch_size": 3, "uda": {"mode": "fixed"}},
    ),
    "tirg with clean statistics": (
        "lit_tirg", {"dropout": 0.0},
        {"batch_size": 15, "micro_batch_size": 3, "uda": {"mode": "fixed", "bn_eval_for_aug": True}},
    ),
    "tirg with rows without a label": (
        "lit_tirg", {"dropout": 0.0},
        {"dataset": "partly", "batch_size": 5, "micro_batch_size": 2, "uda": {"mode": "fixed"}, "unlabelled_ratio": 3},
    ),
    "resnet": ("image", {"dropout": 0.0, "image_encoder": "tiny-resnet"}, {"batch_size": 15}),
    "resnet in parts": (
        "image", {"dropout": 0.0, "image_encoder": "tiny-resnet"},
        {"batch_size": 15, "micro_batch_size": 2, "batch_norm": "running"},
    ),
    "contrastive with copies": (
        "clip", {"mode": "contrastive"}, {"batch_size": 15, "micro_batch_size": 2, "uda": {"mode": "fixed"}},
    ),
    "latents with copies": (
        "hybrid_vae", {"beta": 0.1, "total_correlation": 5.0},
        {"batch_size": 15, "micro_batch_size": 2, "uda": {"mode": "fixed"}},
    ),
}  # fmt: skip


def norm_config(toy, name, **changed):
    family, model, given = NORMS[name]
    return toy(family, model=model, optim={"lr": 1e-4}, **{**given, **changed})


def batch_norm_config(toy):
    return toy("lit_tirg", model={"joint_layers": 1, "tirg_norm": "batch"}, optim={"lr": 1e-3})


@pytest.fixture(scope="module")
def two_ranks(toy, in_new_processes, tmp_path_factory):
    """RANKS on two gloo ranks, and between them jobs that one rank cannot do."""
    alone = ["fails", "behind", "nan", "small", "tirg", "norm"]
    folders = {name: tmp_path_factory.mktemp(name) for name in [*alone, *RANKS]}  # in the order of the jobs
    image = toy("image")
    jobs = [{"config": image.to_dict(), "folder": str(folders["fails"]), "fail_rank": 1}]
    loop.train(image, folder=folders["behind"], ranks=Ranks())
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
    alone = loop.train(config, folder=tmp_path, ranks=Ranks()).reports
    first, second = outs[name]
    assert "error" not in first, first
    assert first == second  # every rank has the same outcome, timings included
    for row, expected in zip(first["rows"], alone, strict=True):
        for key in ("train_loss", "train_supervised", "val_loss", "lr"):
            assert row[key] == pytest.approx(expected[key], rel=1e-4), key
    assert all(row["device_seconds"] == 2 * row["wall_seconds"] for row in first["rows"])
    ids = pyarrow.parquet.read_table(folders[name] / PREDICTIONS)["id"].to_pylist()
    assert ids == [f"row-{row}" for row in range(45, 66)]


@pytest.fixture(scope="module")
def norms(toy, in_new_processes, tmp_path_factory):
    """NORMS -> rows of one process without micro-batches, of one with them, and of two with them."""
    jobs = [
        [
            {"config": norm_config(toy, name, **change).to_dict(), "folder": str(tmp_path_factory.mktemp("norm"))}
            for name in NORMS
        ]
        for change in ({"micro_batch_size": None}, {}, {})
    ]
    jobs = [[{**job, "is_noiseless": True} for job in each] for each in jobs]
    (whole,), (parts,) = in_new_processes(jobs[0]), in_new_processes(jobs[1])
    two, other = in_new_processes(jobs[2], world=2)
    assert two == other
    return dict(zip(NORMS, zip(whole, parts, two, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMS)
def test_rows_meet_in_the_batch_of_a_step_whatever_ranks_and_micro_batches(name, norms):
    whole, *others = norms[name]
    assert "error" not in whole, whole
    for other in others:
        assert "error" not in other, other
        for row, expected in zip(other["rows"], whole["rows"], strict=True):
            assert row["val_accuracy"] == expected["val_accuracy"]
            for key in ("train_loss", "train_supervised", "val_loss"):
                assert row[key] == pytest.approx(expected[key], rel=1e-5), (row["epoch"], key)


@pytest.mark.slow
def test_micro_batches_that_would_cut_a_batch_norm_are_refused(toy, tmp_path):
    config = norm_config(toy, "resnet", micro_batch_size=4)
    expected = r"micro_batch_size: image.encoder.trunk.features.bn1 in this 'image' is a BatchNorm over the whole batch"
    with pytest.raises(ValueError, match=expected):
        loop.train(config, folder=tmp_path, ranks=Ranks())
    with pytest.raises(ValueError, match=expected):
        model_size(config, workers=3)
    model_size(config, workers=4)  # 15 rows over 4 ranks: none is cut
    with pytest.raises(ValueError, match="batch_norm: no encoder that trains in this 'text' has a BatchNorm"):
        model_size(toy("text", batch_norm="running"))


@pytest.mark.slow
def test_two_ranks_evaluate_the_batch_norm_statistics_that_they_save(toy, two_ranks):
    """Each rank's own differ; a row must be of the model in the checkpoint."""
    folders, outs = two_ranks
    state = setup(batch_norm_config(toy), folder=folders["norm"], ranks=Ranks())
    assert outs["norm"][0]["rows"][-1]["val_loss"] == pytest.approx(evaluate(state, "val").loss, rel=1e-6)


@pytest.mark.slow
def test_an_error_of_one_rank_is_raised_by_all_and_the_group_goes_on(two_ranks):
    _, outs = two_ranks
    for out in outs["fails"]:
        said = {"error": "AgreedError", "text": "rank 1: ValueError: nothing works here", "is_lost_peer": False}
        assert out == said
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
    alone = loop.train(config, folder=tmp_path / "one", ranks=Ranks()).reports
    tested = testing.test_best(config, folder=tmp_path / "one", ranks=Ranks())
    for out in three:
        assert out["rows"][0]["val_loss"] == pytest.approx(alone[0]["val_loss"], rel=1e-5)
        assert out["test_loss"] == pytest.approx(tested["test_loss"], rel=1e-5)
    ids = pyarrow.parquet.read_table(tmp_path / "three" / PREDICTIONS)["id"].to_pylist()
    assert ids == [f"row-{row}" for row in range(45, 66)]


def test_a_rank_alone_needs_no_process_group():
    ranks = Ranks()
    assert ranks.gather("x") == ["x"] and ranks.broadcast("x") == "x"
    ranks.raise_together(None)
    ranks.check_same(3, name="epoch", where="the checkpoint")
    with pytest.raises(ZeroDivisionError, match="as it was"):
        ranks.raise_together(ZeroDivisionError("as it was"))


@pytest.mark.slow
def test_who_loses_the_other_rank_knows_it(toy, in_new_processes, two_ranks, tmp_path):
    job = {"config": toy("image").to_dict(), "folder": str(tmp_path), "kill": "step", "kill_rank": 0}
    dead, (survivor,) = in_new_processes([job], world=2)
    assert dead == [] and survivor["is_lost_peer"], survivor
    own = [out for outs in two_ranks[1].values() for out in outs if "error" in out]
    assert own and not any(out["is_lost_peer"] for out in own)
    assert not is_lost_peer(ValueError("/data/gloo/x.csv: is missing"))

"""A trial that is interrupted inside of an epoch goes on there, to the digits of one that was not."""

import pyarrow.parquet
import pytest
import torch

from trainables import loop
from trainables.checkpoint import BEST, LAST, load_checkpoint
from trainables.errors import PreemptedError
from trainables.evaluate import PREDICTIONS
from trainables.precision import Precision
from trainables.ranks import Ranks
from trainables.resume import MIDDLE

UDA = {"uda": {"mode": "dynamic", "n": 9}, "optim": {"lr": 3e-3, "schedule": "plateau", "plateau_patience": 0}}
DECODES = {"text_decoder": "multinomial", "image_decoder": "pixels", "picture_size": 16, "private_latent": 3}
CASES = {  # what an epoch keeps in mind: dropout, sampled noise, copies, lambda, micro-batches, its own metric
    "text": ("text", {"dropout": 0.3}, {"patience": 3, "micro_batch_size": 3, **UDA}),
    "fusion": ("fusion", {"kind": "late", "dropout": 0.3, "lock_image": False}, UDA),
    "hybrid_vae": ("hybrid_vae", {"total_correlation": 4.0, **DECODES}, {}),
    "mvae": ("mvae", {"w_label": 0.5, "posterior": "moe", "subset_elbo": True, "private_latent": 3}, {}),
    "fresh": ("fusion", {"lock_text": False}, {"uda": {"mode": "fixed", "copies": "fresh"}, "train_eval_rows": 8}),
}


def config_of(toy, name, **given):
    family, model, settings = CASES[name]
    return toy(family, model=model, epochs=3, **settings, **given)


def wanted_back_at(step):
    """Once, after ``step`` optimiser steps of this run."""
    left = [step]

    def ask():
        left[0] -= 1
        return left[0] == 0

    return ask


def same_files(one, other):
    for name in (LAST, BEST):
        ours, theirs = load_checkpoint(one / name)[0], load_checkpoint(other / name)[0]
        assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours), name
    tables = [pyarrow.parquet.read_table(folder / PREDICTIONS) for folder in (one, other)]
    assert tables[0].equals(tables[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_goes_on_at_the_step_to_the_last_digit(name, toy, unmeasured, tmp_path):
    straight = loop.train(config_of(toy, name), folder=tmp_path / "straight", ranks=Ranks())
    folder, config, seen = tmp_path / "broken", config_of(toy, name, checkpoint_every_seconds=1e6), []

    def go_on(**given):
        torch.manual_seed(99)  # another process has other generators
        return loop.train(
            config, folder=folder, ranks=Ranks(), known_epoch=len(seen),
            report=lambda row: bool(seen.append(row["epoch"])), **given,
        )  # fmt: skip

    # An epoch has six steps: in the first, in the second, and between the last step of the third and its evaluation.
    for after, epoch, step in ((2, 1, 2), (4 + 3, 2, 3), (3 + 6, 3, 6)):
        with pytest.raises(PreemptedError, match=f"interrupted in epoch {epoch} after {step} steps"):
            go_on(is_wanted_back=wanted_back_at(after))
        assert seen == list(range(1, epoch)) and (folder / MIDDLE).exists()
    told = []
    again = go_on(tell=lambda *said: told.append(said))
    assert told == [] and seen == [1, 2, 3] and again.reason == straight.reason
    assert unmeasured(again.reports) == unmeasured(straight.reports)
    assert not (folder / MIDDLE).exists()
    same_files(folder, tmp_path / "straight")


class Killed(Exception):
    pass


def killed_at(step):
    def tell(what, done, total):
        if what == "epoch 2/3" and done >= step * 7:
            raise Killed

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["none", "cut", "old"])
def test_a_kill_costs_what_came_after_the_last_checkpoint(damage, toy, unmeasured, tmp_path):
    """With 0 seconds between them each step is one; the one that a kill finds is whole or not there."""
    straight = loop.train(config_of(toy, "fusion"), folder=tmp_path / "straight", ranks=Ranks())
    config, folder = config_of(toy, "fusion", checkpoint_every_seconds=0.0), tmp_path / "killed"
    with pytest.raises(Killed):
        loop.train(config, folder=folder, ranks=Ranks(), tell=killed_at(4))
    middle, told = folder / MIDDLE, []
    facts = load_checkpoint(middle)[1]["middle"]
    assert facts["num_steps"] == 3  # the kill came after the fourth step, before its checkpoint
    if damage == "cut":
        middle.write_bytes(middle.read_bytes()[:-100])
        with pytest.warns(UserWarning, match="middle.safetensors: not a checkpoint .* trained again"):
            again = loop.train(config, folder=folder, ranks=Ranks(), tell=lambda *said: told.append(said))
    elif damage == "old":  # of an epoch that the last checkpoint has whole: a kill came before it was removed
        stale = middle.read_bytes()
        loop.train(config, folder=folder, ranks=Ranks(), report=lambda row: row["epoch"] == 2)
        middle.write_bytes(stale)
        again = loop.train(config, folder=folder, ranks=Ranks(), tell=lambda *said: told.append(said))
    else:
        again = loop.train(config, folder=folder, ranks=Ranks(), tell=lambda *said: told.append(said))
    assert len(told) == {"none": 3 + 6, "cut": 6 + 6, "old": 6}[damage]
    assert unmeasured(again.reports) == unmeasured(straight.reports)
    same_files(folder, tmp_path / "straight")


def test_nothing_is_asked_or_written_where_no_checkpoint_is_asked_for(toy, tmp_path):
    loop.train(toy("image", epochs=1), folder=tmp_path, is_wanted_back=lambda: pytest.fail("asked"))
    assert not list(tmp_path.glob("middle*"))


def test_the_middle_of_an_epoch_of_another_configuration_is_refused(toy, tmp_path):
    with pytest.raises(PreemptedError):
        config = toy("image", checkpoint_every_seconds=1e6)
        loop.train(config, folder=tmp_path, is_wanted_back=lambda: True)
    with pytest.raises(ValueError, match="middle.safetensors: belongs to another configuration; different: model.hidd"):
        loop.train(toy("image", model={"hidden": 7}), folder=tmp_path)


@pytest.mark.slow
def test_all_ranks_stop_at_one_step_and_go_on_there(toy, in_new_processes, unmeasured, tmp_path):
    """The second rank is wanted back: both stop; two new processes go on, each with its own dropout."""
    config = config_of(toy, "fusion", checkpoint_every_seconds=1e6).to_dict()
    jobs = [{"config": config, "folder": str(tmp_path / "broken"), "wanted_back": [1, 6 + 3]}]
    first = in_new_processes(jobs, world=2)
    assert [out[0]["text"] for out in first] == ["interrupted in epoch 2 after 3 steps"] * 2
    jobs = [{"config": config, "folder": str(tmp_path / name)} for name in ("broken", "straight")]
    for again, straight in in_new_processes(jobs, world=2):
        assert unmeasured(again["rows"]) == unmeasured(straight["rows"]) and len(again["rows"]) == 3
    same_files(tmp_path / "broken", tmp_path / "straight")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_goes_on_inside_an_epoch(precision, toy, tmp_path):
    ranks = Ranks(device=torch.device("cuda", 0))
    config = config_of(toy, "fusion", checkpoint_every_seconds=1e6).model_copy(update={"precision": precision})
    straight = loop.train(config, folder=tmp_path / "straight", ranks=ranks).reports
    with pytest.raises(PreemptedError):
        loop.train(config, folder=tmp_path / "broken", ranks=ranks, is_wanted_back=wanted_back_at(9))
    assert (load_checkpoint(tmp_path / "broken" / MIDDLE)[1]["scaler"] is not None) == (precision == "fp16")
    torch.manual_seed(99)
    again = loop.train(config, folder=tmp_path / "broken", ranks=ranks).reports
    assert [row["train_loss"] for row in again] == pytest.approx([row["train_loss"] for row in straight], rel=1e-3)


@pytest.mark.slow
def test_the_loss_scale_goes_on_inside_an_epoch(toy, unmeasured, monkeypatch, tmp_path):
    """fp16's scaler, on a CPU: it doubles its scale every four steps, two of which came before the break."""

    def scaled(name, device):
        return Precision(scaler=torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=4))

    monkeypatch.setattr(loop, "choose_precision", scaled)
    config = config_of(toy, "fusion", checkpoint_every_seconds=1e6)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=Ranks())
    with pytest.raises(PreemptedError):
        loop.train(config, folder=tmp_path / "broken", ranks=Ranks(), is_wanted_back=wanted_back_at(6 + 4))
    saved = load_checkpoint(tmp_path / "broken" / MIDDLE)[1]["scaler"]
    assert saved["scale"] == 4.0 * 2**2 and saved["_growth_tracker"] == 2
    again = loop.train(config, folder=tmp_path / "broken", ranks=Ranks())
    assert unmeasured(again.reports) == unmeasured(straight.reports)
    same_files(tmp_path / "broken", tmp_path / "straight")
    ends = [load_checkpoint(tmp_path / name / LAST)[1]["scaler"] for name in ("broken", "straight")]
    assert ends[0] == ends[1] and ends[0]["scale"] == 4.0 * 2**4

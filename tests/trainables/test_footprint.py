"""What training takes of memory, worked out: against training itself, and by what must change it."""

from __future__ import annotations

import pytest
import torch

from trainables.data.open import open_data
from trainables.data.order import eval_batches, global_batches
from trainables.footprint import footprint
from trainables.largest import evaluations, step_rows, training_length
from trainables.loop import train
from trainables.memory import release
from trainables.model import model_size

FREE = {"lock_text": False, "lock_image": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "given", "share"),
    [
        ("vilt", {"image_size": 96}, 0.8),  # of it are activations
        ("image", {"image_size": 96}, 0.8),
        ("flava", {"image_size": 64, "batch_size": 32, "micro_batch_size": 8}, 0.5),
    ],
)
def test_a_trial_takes_within_30_percent_of_it(family, given, share, toy, tmp_path):
    config = toy(family, **{"epochs": 1, "batch_size": 45, "device": "cpu", **given})
    found = footprint(config)
    release(torch.device("cpu"), is_thorough=True)  # garbage of other tests that goes meanwhile would count against it
    (row,) = train(config, folder=tmp_path / "t").reports
    assert found.peak / 2**30 == pytest.approx(row["peak_memory_gib"], rel=0.3)
    assert found.saved > share * found.peak


@pytest.mark.slow
def test_activations_follow_the_rows_and_states_do_not(toy):
    by_rows = {rows: footprint(toy("mmbv", batch_size=rows, image_size=32)) for rows in (9, 15, 45)}
    one = (by_rows[15].saved - by_rows[9].saved) / 6
    assert by_rows[45].saved - by_rows[15].saved == pytest.approx(30 * one, rel=0.01)
    assert by_rows[9].saved == pytest.approx(9 * one, rel=0.1)  # and a mask that all rows share
    size = model_size(toy("mmbv"))
    for found in by_rows.values():
        assert found.peak > size.state_bytes and found.weights == pytest.approx(4 * size.num_parameters, rel=0.01)
    assert by_rows[45].peak > by_rows[15].peak + 25 * one


@pytest.mark.slow
def test_what_makes_a_trial_take_less_makes_it_less(toy):
    given, locks = (
        {"image_size": 32, "batch_size": 45, "cache_features": False},
        {"lock_text": True, "lock_image": True},
    )
    whole = footprint(toy("fusion", model=FREE, **given))
    copies = footprint(toy("fusion", model=FREE, **given, uda={"mode": "fixed"}))
    assert copies.saved == pytest.approx(2 * whole.saved, rel=0.05)
    locked = footprint(toy("fusion", model={"lock_text": True, "lock_image": False}, **given))
    assert locked.weights == whole.weights and locked.saved < 0.8 * whole.saved and locked.peak < whole.peak
    both = footprint(toy("fusion", model=locks, **given))
    assert both.saved < 0.2 * whole.saved
    cached = footprint(toy("fusion", model=locks, **{**given, "cache_features": True}))
    assert cached.weights < 0.3 * both.weights and cached.peak < both.peak  # the encoders are not there
    parts = footprint(toy("fusion", model=FREE, **given, micro_batch_size=9))
    assert parts.saved == pytest.approx(whole.saved / 5, rel=0.05) and parts.peak < 0.6 * whole.peak
    alone, shared = (footprint(toy("fusion", model=FREE, **given), workers=count) for count in (1, 3))
    assert shared.saved == pytest.approx(alone.saved / 3, rel=0.05)


@pytest.mark.slow
def test_gradient_checkpointing_and_half_precision_take_less(toy):
    given = {"image_size": 64, "batch_size": 45}
    whole = footprint(toy("mmbv", **given))
    again = footprint(toy("mmbv", **given, gradient_checkpointing=True))
    half = footprint(toy("mmbv", **given, precision="bf16"))
    assert again.saved < 0.5 * whole.saved and again.peak < 0.8 * whole.peak
    assert 0.5 * whole.saved < half.saved < 0.8 * whole.saved  # LayerNorms and dropout stay in full
    auto = toy("mmbv", **given, precision="auto")
    assert footprint(auto) == whole and footprint(auto, on_gpu=True).saved < half.saved


@pytest.mark.slow
def test_what_is_frozen_at_first_counts_as_what_trains_in_the_end(toy):
    first, last = (footprint(toy("mmbt", model={"freeze_image_epochs": 1}, epochs=epochs)) for epochs in (1, 2))
    assert first.peak < last.peak and last == footprint(toy("mmbt", epochs=2))


@pytest.mark.slow
@pytest.mark.parametrize("on_gpu", [False, True])
def test_nothing_is_left_behind_and_nothing_drawn(on_gpu, toy):
    config = toy("mmbt", gradient_checkpointing=True)
    before = torch.get_rng_state()
    assert footprint(config, on_gpu=on_gpu) == footprint(config, on_gpu=on_gpu)
    assert torch.get_rng_state().equal(before) and float(torch.ones(2).sum()) == 2.0


def test_an_operation_that_needs_values_is_named(toy, monkeypatch):
    def forward(self, batch):
        return torch.nonzero(batch.labels)

    monkeypatch.setattr("trainables.families.image._Image.forward", forward)
    with pytest.raises(NotImplementedError, match=r"aten\.nonzero"):
        footprint(toy("image"))


def test_batches_are_as_long_as_the_longest_of_their_texts(toy):
    """In the toy dataset a text has a word that tells the class and up to 11 others, and what opens and closes it."""
    config = toy("text", max_text_len=100, eval_batch_size=8, batch_size=8)
    data = open_data(config)
    assert data.lengths is not None
    train, val = data.rows["train"], data.rows["val"]
    assert training_length(config, train) == data.lengths[train].max() <= 14
    assert training_length(toy("text", max_text_len=5), train) == 5 and training_length(toy("image"), train) == 0
    batches = [(len(part), int(data.lengths[part].max())) for part in eval_batches(data, val, batch_size=8)]
    found = evaluations(config, val, workers=1)
    assert found[0][0] == 8 and found[-1][1] == batches[-1][1] and found[1:] in ([], batches[-1:])
    assert batches[1][1] <= found[0][1]  # in the order of characters, not of tokens
    assert evaluations(toy("image", eval_batch_size=8), val, workers=1) == [(8, 0)]
    assert evaluations(toy("image", eval_batch_size=64), val, workers=2) == [(11, 0)]
    sizes = [len(part) for part in global_batches(data, batch_size=8, seed=1, epoch=1)]
    assert step_rows(config, len(train), workers=1) == max(sizes) and step_rows(config, len(train), workers=3) == 3

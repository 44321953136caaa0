import numpy as np
import pytest
import torch
from cases import made
from torch.testing import assert_close

from trainables import step
from trainables.data.blank import Dropout, blank_fields, blanked
from trainables.loop import setup, train
from trainables.ranks import Ranks
from trainables.trained import load_trained

FIVE = {"modalities": "text+image+numeric+categorical+graph"}


@pytest.mark.slow
def test_a_blank_row_is_what_a_blank_batch_is(toy, tmp_path):
    """In training, behind cached features of tokens or pooled, and in what `mmtune test --without` shows a model."""
    for at, (model, cache_features) in enumerate([({}, True), ({}, False), ({"kind": "intermediate"}, True)]):
        config = toy("fusion", model={**model, **FIVE}, cache_features=cache_features, modality_dropout=0.9, epochs=1)
        train(config, folder=tmp_path / str(at))
        trained = load_trained(tmp_path / str(at))
        data = setup(config, folder=tmp_path / str(at), ranks=Ranks()).data
        assert data.dropout is not None and list(data.dropout.blanks) == FIVE["modalities"].split("+")
        whole = data.batch(np.arange(4), data.clean)
        is_blank = torch.tensor([True, False, True, False])
        for modality, blank in data.dropout.blanks.items():
            expected, found = trained.blank(whole, modality), blanked(whole, blank, is_blank)
            with torch.no_grad():
                logits = trained.model(found).logits
                assert_close(logits[[0, 2]], trained.model(expected).logits[[0, 2]], rtol=1e-4, atol=1e-5)
                assert_close(logits[[1, 3]], trained.model(whole).logits[[1, 3]], rtol=1e-4, atol=1e-5)
            for name in blank:
                kept = getattr(found, name)[is_blank.logical_not()]
                assert kept.equal(getattr(whole, name)[is_blank.logical_not()]) or kept.isnan().any()


def test_a_share_of_the_rows_loses_one_modality_and_another_each_epoch(toy):
    _, data, batch = made(toy, "fusion", FIVE, modality_dropout=0.5)
    blanks, rows = data.dropout.blanks, np.arange(45)
    lost = np.zeros((200, 45, 5), bool)
    many = Dropout(0.5, 3, len(data.ids), {name: {"numeric": torch.full((1, 3), -1.0)} for name in blanks})
    whole = batch(rows)
    for epoch in range(200):
        for at, name in enumerate(blanks):
            one = Dropout(0.5, 3, many.num_rows, {each: many.blanks[each] if each == name else {} for each in blanks})
            lost[epoch, :, at] = (one(whole, rows, epoch=epoch).numeric == -1).all(dim=1).numpy()
    assert lost.sum(axis=2).max() == 1  # never two
    assert lost.any(axis=2).mean() == pytest.approx(0.5, abs=0.03)
    assert lost.mean(axis=(0, 1)) == pytest.approx(np.full(5, 0.1), abs=0.02)
    assert (lost[0] != lost[1]).any()
    apart = [many(batch([row]), np.array([row]), epoch=7).numeric for row in rows]
    together = many(whole, rows, epoch=7).numeric
    assert together is not None and torch.cat(apart).nan_to_num().equal(together.nan_to_num())  # whatever the batch


@pytest.mark.parametrize("mode", ["fixed", "aug"])
def test_a_row_and_its_copy_lose_the_same_unless_they_are_rows_of_their_own(mode, toy, tmp_path):
    free = {"lock_text": False, "lock_image": False}
    config = toy("fusion", model=free, modality_dropout=0.5, uda={"mode": mode})
    state = setup(config, folder=tmp_path, ranks=Ranks())
    rows = state.data.rows["train"][:20]
    drawn = np.concatenate([rows, rows + len(state.data.ids)]) if mode == "aug" else rows
    batch = step.load(state, drawn, 1).batch
    assert batch.pixel_values is not None and batch.size == 40
    is_grey = (batch.pixel_values == 128).flatten(1).all(dim=1)
    assert 0 < is_grey.sum() < 20
    assert is_grey[:20].equal(is_grey[20:]) == (mode == "fixed")


def test_validation_and_a_share_of_zero_drop_nothing(toy, tmp_path):
    state = setup(toy("fusion", modality_dropout=0.9), folder=tmp_path, ranks=Ranks())
    rows = state.data.rows["val"][:5]
    assert step.clean_batch(state, rows).text_features.equal(state.data.batch(rows, state.data.clean).text_features)
    assert made(toy, "fusion", {})[1].dropout is None


def test_one_modality_cannot_be_lost(toy, tmp_path):
    with pytest.raises(ValueError, match="modality_dropout: family 'image' reads image alone here"):
        setup(toy("image", modality_dropout=0.1), folder=tmp_path, ranks=Ranks())
    with pytest.raises(ValueError, match="modality_dropout: family 'fusion' reads text alone here"):
        setup(toy("fusion", model={"modalities": "text"}, modality_dropout=0.1), folder=tmp_path, ranks=Ranks())


def test_blanks_by_modality():
    assert blank_fields("image", image_size=4)["pixel_values"].unique().tolist() == [128]
    assert blank_fields("numeric", num_columns=3)["numeric"].isnan().all()
    assert blank_fields("categorical", num_columns=2)["categories"].tolist() == [[0, 0]]
    assert blank_fields("graph")["neighbours"].tolist() == [[0]]

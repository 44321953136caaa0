"""Integrated gradients of models whose integrals can be written down."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analysis.inspect.asking import Asked
from analysis.inspect.attributions import embedded_as, integrated_gradients, word_table
from trainables.batch import Batch, ModelOutput
from trainables.task import Task

CLS, SEP, MASK = 1, 2, 3


class Words(nn.Module):
    """f(words): the mean of the embeddings, through ``shape``, times weights."""

    def __init__(self, shape):
        super().__init__()
        torch.manual_seed(0)
        self.word_embeddings, self.head, self.shape = nn.Embedding(20, 4), nn.Linear(4, 3), shape

    def forward(self, batch):
        return ModelOutput(logits=self.head(self.shape(self.word_embeddings(batch.input_ids).mean(dim=1))))


def asked(model, ids, *, target=1):
    tokenizer = SimpleNamespace(
        mask_token_id=MASK, unk_token_id=0, pad_token_id=0, all_special_ids=[CLS, SEP, MASK, 0],
        convert_ids_to_tokens=lambda ids: [f"w{id}" for id in ids],
    )  # fmt: skip
    given = torch.tensor([ids])
    batch = Batch(input_ids=given, attention_mask=(given > 0).long(), labels=torch.zeros(1), ids=["x"])
    config, task = SimpleNamespace(family="text"), Task("multiclass", ("a", "b", "c"))
    trained = SimpleNamespace(model=model.eval(), tokenizer=tokenizer, config=config, task=task)
    return Asked(trained, batch, target, 0.0)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_of_a_linear_model_each_word_adds_its_weighted_difference_to_the_blank():
    model = Words(nn.Identity())
    ids = [CLS, 7, 9, 7, SEP, 0]
    found = integrated_gradients(asked(model, ids))
    table, weight = model.word_embeddings.weight.detach(), model.head.weight.detach()[1]
    wanted = [((table[id] - table[MASK if id > MASK else id]) @ weight).item() / len(ids) for id in ids]
    np.testing.assert_allclose(found.values_L, wanted, atol=1e-6)
    assert found.values_L[1] == pytest.approx(found.values_L[3]) and found.values_L[0] == 0


def test_of_any_smooth_model_they_add_up_to_the_change():
    model = Words(nn.Tanh())
    found = integrated_gradients(asked(model, [CLS, 7, 9, 12, 15, SEP]))
    assert abs(found.logit - found.blank_logit) > 0.01
    assert found.values_L.sum() == pytest.approx(found.logit - found.blank_logit, abs=1e-5)


def test_words_are_what_is_no_special():
    places, words = asked(Words(nn.Identity()), [CLS, 7, 9, SEP, 0, 0]).words
    assert places.tolist() == [1, 2] and words == ["w7", "w9"]


def test_words_that_are_away_are_masked():
    model = Words(nn.Tanh())
    given = asked(model, [CLS, 7, 9, SEP])
    found = given.without_tokens(np.array([[True, False], [False, False]]), np.array([1, 2]))
    wanted = model(Batch(input_ids=torch.tensor([[CLS, 7, MASK, SEP], [CLS, MASK, MASK, SEP]]), labels=torch.zeros(2),
                         ids=["", ""])).logits.double().softmax(dim=1)[:, 1]  # fmt: skip
    np.testing.assert_allclose(found, wanted.detach().numpy())


def test_a_family_may_look_up_the_words_behind_the_first_and_others_besides():
    table = nn.Embedding(9, 2)
    given = torch.arange(12.0).reshape(2, 3, 2)
    with embedded_as(table, given):
        assert torch.equal(table(torch.zeros(2, 2, dtype=torch.int64)), given[:, 1:])
        assert torch.equal(table(torch.tensor([4, 5])), table.weight[[4, 5]])
        assert torch.equal(table(torch.zeros(1, 3, dtype=torch.int64)), table.weight[[0, 0, 0]].unsqueeze(0))
    assert torch.equal(table(torch.zeros(2, 3, dtype=torch.int64)), table.weight[0].expand(2, 3, 2))


def test_of_several_tables_that_of_all_words_is_taken():
    model = nn.ModuleDict({"a": nn.ModuleDict({"word_embeddings": nn.Embedding(2, 4)}), "b": Words(nn.Identity())})
    assert word_table(model) is model["b"].word_embeddings

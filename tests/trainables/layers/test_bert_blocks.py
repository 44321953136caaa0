import pytest
import torch

from trainables.encoders.weights import load_model
from trainables.layers.bert_blocks import additive_mask, image_block, load_bert_config, run_layers, text_block


def test_the_mask_adds_nothing_to_tokens_and_hides_padding():
    mask = additive_mask(torch.tensor([[1, 1, 0], [1, 0, 0]]), torch.float32)
    assert mask.shape == (2, 1, 1, 3)
    weights = (torch.zeros(2, 1, 4, 3) + mask).softmax(dim=-1)
    assert weights[0, 0, 2].tolist() == [0.5, 0.5, 0.0] and weights[1, 0, 0].tolist() == [1.0, 0.0, 0.0]


@torch.no_grad()
def test_layers_by_hand_are_the_encoder():
    bert = load_model("tiny-bert")
    ids, mask = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    expected = bert(input_ids=ids, attention_mask=mask).last_hidden_state
    found = run_layers(bert.encoder.layer, bert.embeddings(input_ids=ids), mask)
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_blocks_are_berts_own_embeddings():
    """Image tokens that are words make the image block that BERT itself would make of these words."""
    table = load_model("tiny-bert").embeddings
    words = torch.tensor([[7, 8], [9, 10]])
    block = image_block(table, table.word_embeddings(words), cls_id=2, sep_id=3, encoder="tiny-bert")
    torch.testing.assert_close(block, table(input_ids=torch.tensor([[2, 7, 8, 3], [2, 9, 10, 3]])))
    behind = text_block(table, torch.tensor([[2, 7, 8], [2, 9, 10]]))
    torch.testing.assert_close(behind, table(input_ids=words, token_type_ids=torch.ones(2, 2, dtype=torch.long)))


@torch.no_grad()
def test_a_block_without_its_tokens_keeps_the_places_of_the_specials():
    table = load_model("tiny-bert").embeddings
    whole = image_block(table, torch.randn(2, 5, 64), cls_id=2, sep_id=3, encoder="tiny-bert")
    empty = image_block(table, torch.zeros(2, 0, 64), cls_id=2, sep_id=3, encoder="tiny-bert", sep_position=6)
    torch.testing.assert_close(empty, whole[:, [0, -1]])


def test_what_cannot_be_is_said():
    table = load_model("tiny-bert").embeddings
    with pytest.raises(ValueError, match="511 image tokens do not fit into the 512 positions of tiny-bert"):
        image_block(table, torch.zeros(1, 511, 64), cls_id=2, sep_id=3, encoder="tiny-bert")
    with pytest.raises(ValueError, match="model.text_encoder: mmbt needs a BERT with two segments, tiny-clip is none"):
        load_bert_config("tiny-clip", family="mmbt")
    assert load_bert_config("tiny-bert", family="mmbt").hidden_size == 64

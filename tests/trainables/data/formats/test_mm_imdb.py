import json

import h5py
import numpy as np
import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import mm_imdb
from trainables.data.reading.pictures import decode_image

FILMS = {
    "0000001": ("train", ["Drama", "Comedy"], ["Short.", "The longest of the plots.", "Not the longest."]),
    "0000002": ("train", ["Drama", "Adult"], ["Two."]),
    "0000003": ("train", ["Adult"], ["Three."]),
    "0000004": ("dev", ["Comedy"], ["Four."]),
    "0000005": ("dev", ["Drama", "News"], ["Five."]),
    "0000006": ("test", ["Drama", "Reality-TV"], ["Six."]),
    "0000007": ("test", ["Comedy", "Drama"], ["Seven."]),
}


def write(folder):
    """The raw folder, below mmimdb/ as it is unpacked."""
    splits = {name: [id for id, (split, _, _) in FILMS.items() if split == name] for name in ("train", "dev", "test")}
    write_files(folder, {"mmimdb/split.json": splits})
    for at, (id, (_, genres, plots)) in enumerate(FILMS.items()):
        film = {"title": "x", "rating": 7, "genres": genres, "plot": plots, "plot outline": "An outline."}
        write_files(folder, {f"mmimdb/dataset/{id}.json": film, f"mmimdb/dataset/{id}.jpeg": png(at)})


def write_hdf5(path, *, size=(4, 6)):
    """As gmu-mmimdb's make_dataset.py and Fuel write it: pictures are BGR less VGG's mean, in whole numbers."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, *size, 3), np.uint8)
    shifted = pixels.astype("float32")[..., [2, 1, 0]] - np.array([103.939, 116.779, 123.68], "float32")
    source = np.dtype([("split", "S5"), ("source", "S15"), ("start", np.int64), ("stop", np.int64), ("comment", "S1")])
    with h5py.File(path, "w") as file:
        file["images"] = shifted.transpose(0, 3, 1, 2).astype("int32")
        file["genres"] = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]], "int32")
        file["genres"].attrs["target_names"] = json.dumps(["Drama", "Comedy"])
        file["imdb_ids"] = np.array([b"0000009", b"0000008", b"0000007", b"0000006", b"0000005"], "S7")
        sequences = file.create_dataset("sequences", (5,), dtype=h5py.special_dtype(vlen=np.dtype("int32")))
        for row, numbers in enumerate([[1, 2], [0], [2, 2, 1], [], [9]]):
            sequences[row] = np.array(numbers, "int32")
        rows = [
            (name, which, *part)
            for name, part in (("train", (0, 2)), ("dev", (2, 3)), ("test", (3, 5)))
            for which in ("genres", "images")
        ]
        file.attrs["split"] = np.array([(*row, b"") for row in rows], source)
    return pixels


def test_longest_plot_and_both_lists_of_genres(tmp_path):
    write(tmp_path)
    table = mm_imdb.read(str(tmp_path))
    assert table.ids == list(FILMS)
    assert table.split.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    assert table.texts == ["The longest of the plots.", "Two.", "Three.", "Four.", "Five.", "Six.", "Seven."]
    assert list(table.images) == [png(at) for at in range(7)]
    assert table.targets["genres23"].task.num_outputs == 23
    assert classes(table, "genres23") == [
        {"Drama", "Comedy"}, {"Drama"}, None, {"Comedy"}, {"Drama"}, {"Drama"}, {"Comedy", "Drama"},
    ]  # fmt: skip
    assert table.targets["genres_mmbt"].task.classes == ("Adult", "Comedy", "Drama")
    assert classes(table, "genres_mmbt") == [  # no News, and nothing that training does not know
        {"Drama", "Comedy"}, {"Drama", "Adult"}, {"Adult"}, {"Comedy"}, None, None, {"Comedy", "Drama"},
    ]  # fmt: skip
    assert table.problems == []


def test_layouts_give_the_same_rows(tmp_path):
    write(tmp_path / "raw")
    plain = mm_imdb.read(str(tmp_path / "raw"))
    assert mm_imdb.read(str(tmp_path / "raw/mmimdb")).ids == plain.ids
    for at, (id, (_, genres, plots)) in enumerate(FILMS.items()):
        film = {"genres": genres, "plot": plots}
        write_files(tmp_path / "prompts", {f"labels/{id}.json": film, f"images/{id}.jpeg": png(at)})
    write_files(tmp_path / "prompts", {"split.json": (tmp_path / "raw/mmimdb/split.json").read_text()})
    for name in ("train", "dev", "test"):
        lines = [
            {
                "id": id,
                "text": max(plots, key=len),
                "image" if at % 2 else "img": f"mmimdb/dataset/{id}.jpeg",
                "label": genres,
            }
            for at, (id, (split, genres, plots)) in enumerate(FILMS.items())
            if split == name
        ]
        write_files(tmp_path / "mmbt", {f"{name}.jsonl": jsonl(*lines)})
    write_files(tmp_path / "mmbt", {f"mmimdb/dataset/{id}.jpeg": png(at) for at, id in enumerate(FILMS)})
    for layout in ("prompts", "mmbt"):
        table = mm_imdb.read(str(tmp_path / layout))
        assert (table.ids, table.texts, list(table.images)) == (plain.ids, plain.texts, list(plain.images))
        for name in mm_imdb.TARGETS:
            assert classes(table, name) == classes(plain, name)


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    films = tmp_path / "mmimdb/dataset"
    (films / "0000001.jpeg").unlink()
    (films / "0000002.json").unlink()
    write_files(films, {"0000005.json": "{", "0000004.json": {"genres": ["Drama"]}, "0000007.json": {"plot": ["x"]}})
    write_files(films, {"0000006.json": {"genres": ["Drama"], "plot": [], "plot outline": "Outline."}})
    table = mm_imdb.read(str(tmp_path))
    assert by_id(table, table.texts) == {"0000003": "Three.", "0000006": "Outline."}
    assert table.problems == [
        "mmimdb/dataset/0000001.json: no picture mmimdb/dataset/0000001.jpeg",
        "mmimdb/split.json: film 0000002 of train has no 0000002.json",
        "mmimdb/dataset/0000004.json: no 'plot'",
        "mmimdb/dataset/0000005.json: line 1: not JSON (Expecting property name enclosed in double quotes at column 2)",
        "mmimdb/dataset/0000007.json: no 'genres'",
    ]


def test_split_file_that_is_something_else(tmp_path):
    write(tmp_path)
    write_files(tmp_path, {"mmimdb/split.json": {"train": []}})
    with pytest.raises(ValueError, match="split.json: no list 'dev' in it"):
        mm_imdb.sources(str(tmp_path))


def test_hdf5(tmp_path):
    pixels = write_hdf5(tmp_path / "multimodal_imdb.hdf5")
    write_files(tmp_path, {"vocab.json": {"0": "_UNK_", "1": "films", "2": "about"}})
    (tmp_path / "metadata.npy").write_bytes(b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.")  # never opened
    table = mm_imdb.read(str(tmp_path))
    assert table.ids == ["0000009", "0000008", "0000007", "0000006"]
    assert table.split.tolist() == ["train", "train", "val", "test"]
    assert table.texts == ["films about", "_UNK_", "about about films", ""]
    assert classes(table) == [{"Drama"}, {"Drama", "Comedy"}, {"Comedy"}, None]
    for row in range(4):
        found = np.asarray(decode_png(table.images[row])).astype(int)
        assert abs(found - pixels[row]).max() <= 1
        assert (found == pixels[row]).mean() > 0.9  # only what was cut to 0 is not exact
    assert table.problems == ["multimodal_imdb.hdf5: row 4: word 9 is not in vocab.json"]


def decode_png(data):
    import io

    from PIL import Image

    assert decode_image(data, size=2, where="").shape == (3, 2, 2)
    return Image.open(io.BytesIO(data))


def test_hdf5_without_a_vocabulary_has_no_texts(tmp_path):
    write_hdf5(tmp_path / "multimodal_imdb.hdf5")
    table = mm_imdb.read(str(tmp_path))
    assert table.texts is None and len(table.ids) == 5
    assert table.problems == [
        "multimodal_imdb.hdf5: no texts: their words are pickled in metadata.npy, which is not read; "
        "see docs/datasets.md"
    ]


def test_hdf5_that_is_cut_short(tmp_path):
    path = tmp_path / "multimodal_imdb.hdf5"
    write_hdf5(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="multimodal_imdb.hdf5: not an HDF5 file, or not all of it"):
        mm_imdb.read(str(tmp_path))


def test_hdf5_with_other_contents(tmp_path):
    with h5py.File(tmp_path / "multimodal_imdb.hdf5", "w") as file:
        file["images"] = np.zeros((1, 3, 2, 2), "int32")
    with pytest.raises(ValueError, match="no dataset 'genres'. Known: images"):
        mm_imdb.read(str(tmp_path))

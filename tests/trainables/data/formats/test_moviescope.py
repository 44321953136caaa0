import shutil

import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import moviescope


def film(id, genres, **text):
    return {"id": id, "label": genres, "metadata": "x", **(text or {"synopsis": f"film {id}"})}


def write(folder):
    """Numbers as ids, texts under either key, posters in either format."""
    write_files(
        folder,
        {
            "train.jsonl": jsonl(film(1, ["Action", "Drama"]), film(2, ["Drama"], text="another key")),
            "dev.jsonl": jsonl(film(3, ["Comedy"])),
            "test.jsonl": jsonl(film(4, ["Action"])),
            "200F_VGG16/1.p": b"cos\nsystem\n.",
            "Raw_Poster/1.jpg": png(1), "Raw_Poster/2.png": png(2), "Raw_Poster/3.jpg": png(3),
            "Raw_Poster/4.jpeg": png(4),
        },
    )  # fmt: skip


def test_films(tmp_path):
    write(tmp_path)
    table = moviescope.read(str(tmp_path))
    assert (table.ids, table.split.tolist()) == (["1", "2", "3", "4"], ["train", "train", "val", "test"])
    assert table.texts == ["film 1", "another key", "film 3", "film 4"]
    assert classes(table) == [{"Action", "Drama"}, {"Drama"}, {"Comedy"}, {"Action"}]
    assert list(table.images) == [png(at) for at in (1, 2, 3, 4)] and table.problems == []


def test_without_posters_there_is_text(tmp_path):
    write(tmp_path)
    shutil.rmtree(tmp_path / "Raw_Poster")
    table = moviescope.read(str(tmp_path))
    assert table.images is None and len(table.ids) == 4


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    (tmp_path / "Raw_Poster/2.png").unlink()
    write_files(tmp_path, {"test.jsonl": jsonl(film(4, "Action"), film(1, ["Drama"]), film("../1", ["Drama"]))})
    table = moviescope.read(str(tmp_path))
    assert list(by_id(table, table.split)) == ["1", "3"]
    assert table.problems == [
        "train.jsonl line 2: no picture Raw_Poster/2.jpg",
        "test.jsonl line 1: 'label' is no list of names: 'Action'",
        "test.jsonl line 2: id 1 was there before",
        "test.jsonl line 3: no picture Raw_Poster/../1.jpg",
    ]


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(ValueError, match="has no dev.jsonl. Known layouts"):
        moviescope.read(str(tmp_path))

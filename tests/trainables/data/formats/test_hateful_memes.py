import shutil

import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import hateful_memes


def meme(id, label=None, img=None, text="words"):
    row = {"id": id, "img": img or f"img/{str(id).zfill(5)}.png", "text": text}
    return row if label is None else row | {"label": label}


def write(folder):
    """Phase 1: ids as numbers and as padded texts, a test part without labels."""
    write_files(folder, {f"img/{id:05d}.png": png(id) for id in range(1, 9)})
    write_files(
        folder,
        {
            "train.jsonl": jsonl(meme(1, 0, text="a cat"), meme("00002", 1, text="b"), meme(3, 1), meme(4, 0)),
            "dev.jsonl": jsonl(meme("05", 0), meme(6, 1)),
            "test.jsonl": jsonl(meme(7), meme(8)),
        },
    )


def write_later(folder):
    """Seen and unseen parts; meme 6 is in both development parts."""
    write_files(folder, {f"img/{id:05d}.png": png(id) for id in range(1, 11)})
    write_files(
        folder,
        {
            "train.jsonl": jsonl(meme(1, 0), meme(2, 1)),
            "dev_seen.jsonl": jsonl(meme(5, 0), meme(6, 1)),
            "dev_unseen.jsonl": jsonl(meme("00006", 1), meme(7, 1)),
            "test_seen.jsonl": jsonl(meme(8, 1), meme(9, 0)),
            "test_unseen.jsonl": jsonl(meme(10, 0)),
            "dev.jsonl": "not read",
            "test.jsonl": jsonl(meme(8), meme(9)),
        },
    )


def test_phase_1(tmp_path):
    write(tmp_path)
    table = hateful_memes.read(str(tmp_path))
    assert table.ids == ["00001", "00002", "00003", "00004", "00005", "00006", "00007", "00008"]
    assert table.split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert classes(table) == ["not hateful", "hateful", "hateful", "not hateful", "not hateful", "hateful", None, None]
    assert table.texts[:2] == ["a cat", "b"]
    assert list(table.images) == [png(id) for id in range(1, 9)]
    assert table.problems == []


def test_seen_and_unseen_are_one_split(tmp_path):
    write_later(tmp_path)
    table = hateful_memes.read(str(tmp_path))
    assert by_id(table, table.split.tolist()) == {
        "00001": "train", "00002": "train", "00005": "val", "00006": "val", "00007": "val", "00008": "test",
        "00009": "test", "00010": "test",
    }  # fmt: skip
    assert by_id(table, classes(table))["00008"] == "hateful"
    assert table.problems == []
    (tmp_path / "test_unseen.jsonl").unlink()
    assert "00010" not in hateful_memes.read(str(tmp_path)).ids


def test_as_mmf_unpacks_it(tmp_path):
    write(tmp_path / "here")
    plain = hateful_memes.read(str(tmp_path / "here"))
    for prefix in ("", "defaults/"):
        root = tmp_path / f"mmf{len(prefix)}"
        for path in sorted((tmp_path / "here").rglob("*.*")):
            name = path.relative_to(tmp_path / "here").as_posix()
            to = root / prefix / ("annotations/" if path.suffix == ".jsonl" else "images/") / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)
        table = hateful_memes.read(str(root))
        assert (table.ids, list(table.images)) == (plain.ids, list(plain.images))


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    (tmp_path / "img/00002.png").unlink()
    (tmp_path / "img/00003.png").write_bytes(b"")
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(
            jsonl(
                '{"id": 20, "img": ', "", [1], meme(1, 0), meme(21, 2), meme(22), meme(23, 0, img="../secret.png"),
                meme(24, 0, img="/etc/passwd"), {"id": None, "label": 0}, meme(25, 0, text=7),
                meme(4, 1, img="img/00008.png"),
            )
        )  # fmt: skip
    with (tmp_path / "train.jsonl").open("ab") as file:
        file.write(b'{"id": 26, "text": "\xff"}\n')
    table = hateful_memes.read(str(tmp_path))
    assert table.ids[:2] == ["00001", "00004"] and len(table.ids) == 6
    assert table.problems == [
        "train.jsonl line 2: no picture img/00002.png",
        "train.jsonl line 3: picture img/00003.png is empty",
        "train.jsonl line 5: not a JSON object (Expecting value at column 19)",
        "train.jsonl line 7: not a JSON object (a JSON list, not an object)",
        "train.jsonl line 8: id 00001 was there before",
        "train.jsonl line 9: 'label' is 2, none of 0, 1",
        "train.jsonl line 10: no 'label'",
        "train.jsonl line 11: picture '../secret.png' leaves the folder",
        "train.jsonl line 12: picture '/etc/passwd' is absolute",
        "train.jsonl line 13: no 'id'",
        "train.jsonl line 14: 'text' is no text: 7",
        "train.jsonl line 15: id 00004 was there before",
        "train.jsonl line 16: not a JSON object (not UTF-8 at byte 21)",
    ]


@pytest.mark.parametrize(
    "gone, message",
    [
        ("train.jsonl", "has no train.jsonl. Known layouts: train.jsonl, dev.jsonl, test.jsonl and img/ |"),
        ("dev.jsonl", "has no dev.jsonl, dev_seen.jsonl or dev_unseen.jsonl"),
        ("img", "has no folder img"),
    ],
)
def test_what_is_missing_is_named(tmp_path, gone, message):
    write(tmp_path)
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError) as caught:
        hateful_memes.read(str(tmp_path))
    assert message in str(caught.value)


def test_a_file_that_is_something_else(tmp_path):
    write(tmp_path)
    (tmp_path / "dev.jsonl").write_text("\n<html>\n</html>\n")
    with pytest.raises(ValueError, match=r"dev.jsonl line 2: not a file of JSON lines \(Expecting value at column 1\)"):
        hateful_memes.read(str(tmp_path))


def test_a_folder_without_any_picture(tmp_path):
    write(tmp_path)
    for path in (tmp_path / "img").iterdir():
        path.unlink()
    with pytest.raises(
        ValueError, match="no row that can be used; 8 problems, the first: train.jsonl line 1: no picture"
    ):
        hateful_memes.read(str(tmp_path))

import shutil
from collections import Counter

import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import food101

DISHES = ("apple_pie", "baklava")
TRAIN, TEST = 20, 4  # pictures of each dish


def pictures():
    for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        for dish in DISHES:
            for number in numbers:
                yield split, dish, number


def write(folder):
    """Kaggle's copy: lists without a header, titles with commas and quotes."""
    lists = {"train": "", "test": ""}
    for split, dish, number in pictures():
        write_files(folder, {f"images/{split}/{dish}/{dish}_{number}.jpg": png(number, len(dish))})
        title = f'"The ""best"", {dish} {number}"' if number % 2 else f"{dish} {number}"
        lists[split] += f"{dish}_{number}.jpg,{title},{dish}\n"
    write_files(folder, {f"texts/{split}_titles.csv": lines for split, lines in lists.items()})


def write_pages(folder):
    """The older layout: one file of text a picture, some missing."""
    for split, dish, number in pictures():
        write_files(folder, {f"images/{split}/{dish}/{dish}_{number}.jpg": png(number, len(dish))})
        if (dish, number) != ("baklava", 3):
            write_files(folder, {f"texts_txt/{dish}/{dish}_{number}.txt": f"How to\n make {dish}\t{number} "})


def test_titles(tmp_path):
    write(tmp_path)
    table = food101.read(str(tmp_path))
    texts, label = by_id(table, table.texts), by_id(table, classes(table))
    assert texts["train/apple_pie/apple_pie_3.jpg"] == 'The "best", apple_pie 3'
    assert texts["test/baklava/baklava_20.jpg"] == "baklava 20" and label["test/baklava/baklava_20.jpg"] == "baklava"
    assert by_id(table, table.images)["train/baklava/baklava_7.jpg"] == png(7, 7)
    assert len(table.ids) == 48 and table.problems == []


def test_validation_is_held_out_evenly_over_the_dishes(tmp_path):
    write(tmp_path)
    table = food101.read(str(tmp_path))
    counts = Counter(zip(table.split.tolist(), classes(table), strict=True))
    assert counts == {
        ("train", dish): TRAIN - 2 for dish in DISHES
    } | {("val", dish): 2 for dish in DISHES} | {("test", dish): TEST for dish in DISHES}  # fmt: skip
    lines = (tmp_path / "texts/train_titles.csv").read_text().splitlines(keepends=True)
    (tmp_path / "texts/train_titles.csv").write_text("".join(reversed(lines)))
    assert by_id(food101.read(str(tmp_path)), food101.read(str(tmp_path)).split) == by_id(table, table.split)


def test_pages(tmp_path):
    write_pages(tmp_path)
    (tmp_path / "texts_txt/apple_pie/apple_pie_5.txt").write_bytes(b"caf\xe9 pie")
    table = food101.read(str(tmp_path))
    texts = by_id(table, table.texts)
    assert texts["train/baklava/baklava_4.jpg"] == "How to make baklava 4"
    assert texts["train/apple_pie/apple_pie_5.jpg"] == "caf\ufffd pie"
    assert len(table.ids) == 47 and Counter(table.split.tolist())["val"] == 3
    assert table.problems == [
        "texts_txt/apple_pie/apple_pie_5.txt: not UTF-8: what cannot be read is replaced",
        "images/train/baklava/baklava_3.jpg: has no text texts_txt/baklava/baklava_3.txt",
    ]
    assert len(food101.sources(str(tmp_path))) == 47


def test_mmbt_lines_have_their_own_validation(tmp_path):
    write_pages(tmp_path)
    row = {"text": "how to make", "label": "baklava"}
    write_files(
        tmp_path,
        {
            "train.jsonl": jsonl(
                row | {"id": "baklava_baklava_0.jpg", "img": "images/train/baklava/baklava_0.jpg"},
                row | {"id": "a", "img": "images/train/apple_pie/apple_pie_0.jpg", "label": "apple_pie"},
            ),
            "dev.jsonl": jsonl(row | {"id": "baklava_baklava_1.jpg", "img": "images/train/baklava/baklava_1.jpg"}),
            "test.jsonl": jsonl(row | {"id": "t", "img": "images/test/baklava/baklava_99.jpg"}),
        },
    )
    table = food101.read(str(tmp_path))
    assert by_id(table, table.split) == {"baklava_baklava_0.jpg": "train", "a": "train", "baklava_baklava_1.jpg": "val"}
    assert table.problems == ["test.jsonl line 1: no picture images/test/baklava/baklava_99.jpg"]


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    path = tmp_path / "texts/test_titles.csv"
    with path.open("ab") as file:
        file.write(
            b'x.jpg,title\nbaklava_20.jpg,again,baklava\nbaklava_90.jpg,"a\nb",baklava\ny.jpg,"t"t,z\n../a,t,b\nz,\xff,z\n'
        )
    table = food101.read(str(tmp_path))
    assert table.problems == [
        "texts/test_titles.csv line 9: 2 fields, not 3",
        "texts/test_titles.csv line 10: id test/baklava/baklava_20.jpg was there before",
        "texts/test_titles.csv line 11: no picture images/test/baklava/baklava_90.jpg",
        "texts/test_titles.csv line 13: not CSV (',' expected after '\"')",
        "texts/test_titles.csv line 14: picture 'images/test/b/../a' leaves the folder",
        "texts/test_titles.csv line 15: not UTF-8",
    ]


def test_a_quote_that_is_never_closed(tmp_path):
    write(tmp_path)
    with (tmp_path / "texts/train_titles.csv").open("a") as file:
        file.write('x.jpg,"title,baklava\n' + "y.jpg,title,baklava\n" * 3)
    with pytest.raises(ValueError, match="train_titles.csv line 41: a quote is opened here and never closed"):
        food101.read(str(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="has no texts/train_titles.csv, folder texts_txt or train.jsonl. Known layouts:"
    ):
        food101.read(str(tmp_path))
    write(tmp_path)
    (tmp_path / "texts/test_titles.csv").unlink()
    with pytest.raises(ValueError, match="has no texts/test_titles.csv"):
        food101.sources(str(tmp_path))
    write_pages(tmp_path / "pages")
    shutil.rmtree(tmp_path / "pages/images/test")
    with pytest.raises(ValueError, match="has no folder images/test"):
        food101.read(str(tmp_path / "pages"))

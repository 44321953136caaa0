import unicodedata
from collections import Counter

import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import news

TOPICS = ("deporte", "pol\u00edtica")


def article(at, **changes):
    return {
        "id": f"n{at}", "title": f"T\u00edtulo {at}", "text": f"Texto {at}.", "topic": TOPICS[at % 2],
        "image": f"fotos/{at}.jpg",
    } | changes  # fmt: skip


def write(folder):
    """One file of JSON lines with a byte order mark, accents in two characters here and there."""
    write_files(folder, {f"fotos/{at}.jpg": png(at) for at in range(40)})
    rows = [article(at) for at in range(40)]
    rows[3]["topic"] = unicodedata.normalize("NFD", rows[3]["topic"])
    write_files(folder, {"news.jsonl": "\ufeff" + jsonl(*rows)})


def test_articles(tmp_path):
    write(tmp_path)
    table = news.read(str(tmp_path))
    assert table.texts[1] == "T\u00edtulo 1. Texto 1." and table.images[1] == png(1)
    assert classes(table) == [TOPICS[at % 2] for at in range(40)]
    assert Counter(zip(table.split.tolist(), classes(table), strict=True)) == {
        (split, topic): count for split, count in (("train", 16), ("val", 2), ("test", 2)) for topic in TOPICS
    }
    assert table.problems == [] and table.categorical == {}


def test_csv_with_splits(tmp_path):
    write(tmp_path)
    (tmp_path / "news.jsonl").unlink()
    names = ("train", "dev", "test", "train", "val")
    lines = [
        f'"T\u00edtulo, {at}","l\u00ednea\nl\u00ednea",{TOPICS[at % 2]},fotos/{at}.jpg,{split},EFE'
        for at, split in enumerate(names)
    ]
    write_files(tmp_path, {"news.csv": "title,text,topic,image,split,source\n" + "\n".join(lines)})
    table = news.read(str(tmp_path))
    assert table.ids == ["news-2", "news-4", "news-6", "news-8", "news-10"]
    assert table.split.tolist() == ["train", "val", "test", "train", "val"]
    assert table.texts[0] == "T\u00edtulo, 0. l\u00ednea\nl\u00ednea"
    assert table.categorical == {"source": ["EFE"] * 5}


def test_one_file_a_split(tmp_path):
    write(tmp_path)
    (tmp_path / "news.jsonl").unlink()
    write_files(
        tmp_path,
        {
            "train.jsonl": jsonl(article(0), article(1)),
            "dev.jsonl": jsonl(article(2)),
            "test.jsonl.gz": jsonl(article(3)),
        },
    )
    table = news.read(str(tmp_path))
    assert by_id(table, table.split) == {"n0": "train", "n1": "train", "n2": "val", "n3": "test"}


def test_the_same_article_twice_stays_together(tmp_path):
    write(tmp_path)
    rows = [article(at) for at in range(40)]
    rows += [article(at, id=f"c{at}", title=f"T\u00cdTULO  {at}") for at in range(40)]
    write_files(tmp_path, {"news.jsonl": jsonl(*rows)})
    split = news.read(str(tmp_path)).split
    assert (split[:40] == split[40:]).all() and set(split) == {"train", "val", "test"}


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    bad = [
        article(40), article(1), article(2, id="x", topic=""), article(2, id="y", title="", text=" "),
        article(2, id="z", split="training"), article(2, id="w", image="../2.jpg"),
    ]  # fmt: skip
    with (tmp_path / "news.jsonl").open("a") as file:
        file.write(jsonl(*bad))
    table = news.read(str(tmp_path))
    assert len(table.ids) == 40
    assert table.problems == [
        "news.jsonl line 41: no picture fotos/40.jpg",
        "news.jsonl line 42: id n1 was there before",
        "news.jsonl line 43: no 'topic'",
        "news.jsonl line 44: neither 'title' nor 'text'",
        "news.jsonl line 45: split 'training' is none of train, val, test, dev, valid, validation",
        "news.jsonl line 46: picture '../2.jpg' leaves the folder",
    ]


def test_splits_for_some_articles_only(tmp_path):
    write(tmp_path)
    write_files(tmp_path, {"news.jsonl": jsonl(article(0, split="train"), article(1))})
    with pytest.raises(ValueError, match="some articles have a split and article n1 has none"):
        news.read(str(tmp_path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no news.jsonl, news.csv or train.jsonl. Known layouts"):
        news.sources(str(tmp_path))
    write_files(tmp_path, {"news.csv": "title,text,topics,image\n"})
    with pytest.raises(ValueError, match="news.csv line 1: no column 'topic', did you mean 'topics'"):
        news.read(str(tmp_path))

"""Every dataset on disk reads the same when another system has written its files."""

from __future__ import annotations

import gzip
import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from disk import png, write_files
from test_formats import ON_DISK, module_of

from trainables.config import TrialConfig
from trainables.data.formats import dataset_module, food101, hateful_memes, moviescope, news, vqa_v2
from trainables.data.open import labelled_rows
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.table import Table

TEXT = {".csv", ".tsv", ".jsonl", ".json", ".yaml", ".dat", ".inter", ".item", ".user", ".data", ".genre"}
PICTURES = {".jpg", ".jpeg", ".png"}


def written(folder, name) -> Table:
    module_of(name).write(folder)
    return dataset_module(name).read(str(folder))


def same(one, other):
    assert other.ids == one.ids and other.split.tolist() == one.split.tolist() and other.texts == one.texts
    assert other.problems == [] and dict(other.categorical) == dict(one.categorical)
    for name, target in one.targets.items():
        assert other.targets[name].task == target.task
        np.testing.assert_array_equal(other.targets[name].labels[:], target.labels[:])
    if one.images is not None:
        assert list(other.images[:50]) == list(one.images[:50])


@pytest.mark.parametrize("name", ON_DISK)
@pytest.mark.parametrize("end, encoding", [(b"\r\n", "utf-8-sig"), (b"\r", "utf-8"), (b"\n", "utf-16")])
def test_line_ends_and_byte_order_marks(tmp_path, name, end, encoding):
    before = written(tmp_path, name)
    for path in tmp_path.rglob("*"):
        if path.suffix.lower() in TEXT:
            data = path.read_bytes()
            if not (data.isascii() or path.suffix in (".csv", ".jsonl", ".json", ".yaml")):
                continue  # Latin-1 as published
            path.write_bytes(data.replace(b"\r\n", b"\n").replace(b"\n", end).decode("utf-8-sig").encode(encoding))
    after = dataset_module(name).read(str(tmp_path))
    same(before, after)


@pytest.mark.parametrize("name", ON_DISK)
def test_pictures_with_names_in_capitals(tmp_path, name):
    before = written(tmp_path, name)
    content = None if before.images is None else list(before.images[:50])
    moved = 0
    for path in sorted(tmp_path.rglob("*")):
        if path.suffix in PICTURES and "texts_txt" not in [part.name for part in tmp_path.iterdir()]:
            path.rename(path.with_suffix(path.suffix.upper()))
            moved += 1
    after = dataset_module(name).read(str(tmp_path))
    assert after.ids == before.ids and after.problems == []
    assert content is None or list(after.images[:50]) == content
    if name in ("moviescope", "amazon", "movielens", "movielens_movies"):  # whose files do not spell the suffix
        return
    assert bool(moved) == any("spelled in another way on disk" in note for note in after.notes)


MEME = '{{"id": {id}, "img": "img/{id}.png", "text": "x", "label": {label}}}\n'


def test_labels_of_memes_in_other_types(tmp_path):
    labels = ("0", "1", '"1"', "1.0", '"1.0"', "true", '"TRUE"', "false", "0.0")
    lines = "".join(MEME.format(id=at, label=label) for at, label in enumerate(labels, 1))
    lines += "".join(MEME.format(id=at, label=label) for at, label in ((50, "NaN"), (51, '"N/A"'), (52, "2")))
    pictures = {f"img/{at}.png": png(at) for at in range(60)}
    test = "".join(MEME.format(id=at, label=label) for at, label in ((53, "NaN"), (54, '"None"'), (55, "1")))
    write_files(
        tmp_path, {"train.jsonl": lines, "dev.jsonl": MEME.format(id=56, label="1"), "test.jsonl": test, **pictures}
    )
    table = hateful_memes.read(str(tmp_path))
    found = dict(zip(table.ids, table.targets["label"].labels.tolist(), strict=True))
    assert [found[f"{at:05d}"] for at in range(1, 10)] == [0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert [found[f"000{at}"] for at in (53, 54, 55)] == [-1, -1, 1]
    assert table.problems == [
        "train.jsonl line 10: no 'label'",
        "train.jsonl line 11: no 'label'",
        "train.jsonl line 12: 'label' is 2, none of 0, 1",
    ]


def test_genres_as_text_and_names_with_accents(tmp_path):
    split = '[{{"id": "caf\u00e9{at}", "text": "x", "label": "[\'Drama\', \'Com\u00e9die\']"}}, '
    split += '{{"id": {at}.0, "text": "y", "label": ["Come\u0301die", "NaN"]}}]'
    files = {f"{name}.jsonl": split.format(at=at) for at, name in enumerate(("train", "dev", "test"))}
    for at in range(3):
        files |= {unicodedata.normalize("NFD", f"posters/caf\u00e9{at}.jpg"): png(at), f"posters/{at}.JPG": png(9)}
    write_files(tmp_path, files)
    table = moviescope.read(str(tmp_path))
    assert table.ids == ["caf\u00e90", "0", "caf\u00e91", "1", "caf\u00e92", "2"] and table.problems == []
    assert table.targets["genres"].task.classes == ("Com\u00e9die", "Drama")
    assert table.targets["genres"].labels.tolist() == [[1, 1], [1, 0]] * 3
    assert table.notes[0] == "genres: 3 labels read as missing: NaN; first train.jsonl line 2"


def test_news_of_several_files(tmp_path):
    def part(topics, separator=";"):
        rows = [f"{at};t{at}x;{topic};a.png" for at, topic in enumerate(topics)]
        return "\r".join(["id;title;topic;image", *rows]).replace(";", separator)

    files = {"train.csv": part(["1.0", "2.0", "1.0", "NaN"] * 10), "test.csv": part(["1", "2"], ","), "a.png": png(1)}
    write_files(tmp_path, files)
    table = news.read(str(tmp_path))
    assert table.targets["topic"].task.classes == ("1", "2") and len(table.ids) == 32
    assert table.ids[-2:] == ["test.csv:0", "test.csv:1"] and table.problems[0] == "train.csv line 5: no 'topic'"
    assert (table.split == "val").sum() == 3 and (table.split == "test").sum() == 2
    text = "\n".join(table.notes)
    for part_of in (
        "fields stand between ';'",
        "2 values in several spellings, 30 times",
        "2 times an id that an earlier",
    ):
        assert part_of in text
    assert "3 of 30 training rows are held out" in text


def test_questions_and_answers_are_joined_whatever_their_type(tmp_path):
    before = written(tmp_path, "vqa_v2")
    path = next(tmp_path.rglob("v2_mscoco_train2014_annotations.json"))
    text = path.read_text()

    document = json.loads(text)
    for item in document["annotations"]:
        item["question_id"] = str(item["question_id"])
    path.write_text(json.dumps(document))
    same(before, vqa_v2.read(str(tmp_path)))


def test_the_cause_is_said_before_what_follows_from_it(tmp_path):
    line = '{{"id": {}, "title": "{}", "topic": "{}", "image": "{}.png"}}\n'
    lines = line.format(1, "x", "a", "a") + line.format(2, "y", "b", "b")
    write_files(tmp_path, {"news.jsonl": lines, "a.png": png(1)})
    with pytest.raises(
        ValueError, match="1 row left out or repaired, the first: news.jsonl line 2: no picture b.png; of the"
    ):
        news.read(str(tmp_path))


def test_a_file_whose_name_has_capitals_is_named(tmp_path):
    write_files(tmp_path, {"News.CSV": "x"})
    with pytest.raises(ValueError, match=r"has no .*news.csv.* \(but News.CSV: rename it\)"):
        news.read(str(tmp_path))


def test_numbers_of_the_lines_of_each_file_are_no_ids_of_all(tmp_path):
    line = '{{"id": {}, "text": "x{}", "img": "a.png", "label": "{}"}}\n'
    sizes = {"train": 6, "dev": 8, "test": 3}
    files = {
        f"{name}.jsonl": "".join(line.format(at, at, "ab"[at % 2]) for at in range(num)) for name, num in sizes.items()
    }
    write_files(tmp_path, {**files, "a.png": png(1)})
    table = food101.read(str(tmp_path))
    assert [(table.split == name).sum() for name in ("train", "val", "test")] == [6, 8, 3] and table.problems == []
    assert table.ids[5:8] == ["5", "dev.jsonl:0", "dev.jsonl:1"] and len(table.notes) == 2


def lines_of(folder):
    """The files of a row a line in JSON, and their lines; packed ones too."""
    for path in sorted(folder.rglob("*")):
        if path.name.endswith((".jsonl", ".json.gz")) and not path.name.startswith("meta_"):
            data = path.read_bytes()
            yield path, (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()


def write_text(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize("name", ["amazon", "hateful_memes", "snli_ve"])
def test_lines_of_json_as_one_array(tmp_path, name):
    before = written(tmp_path, name)
    files = list(lines_of(tmp_path))
    for path, lines in files:
        write_text(path, "[" + ",\n".join(lines) + "]")
    assert files
    same(before, dataset_module(name).read(str(tmp_path)))


@pytest.mark.parametrize("name", ["amazon", "movielens"])
def test_rows_that_mostly_repeat_are_said_first(tmp_path, name):
    """Not what is left of them: that all labels are alike, or that a split has none."""
    module_of(name).write(tmp_path)
    files = [(path, path.read_text().splitlines()) for path in tmp_path.rglob("ratings.*")]
    for path, lines in [*lines_of(tmp_path), *files]:
        write_text(path, "\n".join([lines[0], *lines[1:5] * 3]) + "\n")
    with pytest.raises(ValueError, match="ids are none: of 8 rows they were there before, 5 rows are left"):
        dataset_module(name).read(str(tmp_path))


def test_a_split_without_labels_names_the_rows_left_out(tmp_path):
    lines = [f"{row},word,{'ab'[row % 2]},train" for row in range(8)] + ["0,word,a,val", "1,word,b,val"]
    text = "files: rows.csv\nid: id\ntext: text\nsplit: part\nlabels: {y: {column: y, kind: multiclass}}\n"
    write_files(tmp_path, {"rows.csv": "\n".join(["id,text,y,part", *lines]) + "\n", "table.yaml": text})
    params = {"family": "text", "dataset": "table", "data_dir": str(tmp_path), "model.text_encoder": "tiny-bert"}
    config = TrialConfig.from_params(params)
    table = load_table(DatasetRef.of(config))
    target = table.targets["y"]
    if (table.split == "val").any():  # the reader gives a table without validation rows some by hash
        target = replace(target, is_labelled=table.split == "train")
    with pytest.raises(
        ValueError, match="2 rows left out or repaired, the first: rows.csv line 10: id 0 was there .*of"
    ):
        labelled_rows(config, target)

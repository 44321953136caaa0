"""A search over a user's own table: what is wrong with its rows is said, what is wrong with the file is refused."""

from __future__ import annotations

import json

import pytest
from PIL import Image

YAML = "files: rows.jsonl\ntext: words\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\n"
SEARCH = """\
study: s
family: text
dataset: table
fixed: {epochs: 1, max_text_len: 8, model.text_encoder: tiny-bert, model.lock_text: false}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
budget: {trials: 1}
"""


@pytest.fixture
def folder(mmtune):
    data = mmtune.cwd / "data"
    data.mkdir()
    (data / "table.yaml").write_text(YAML)
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    lines = []
    for row in range(40):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(data / f"{row}.png")
        lines.append(json.dumps({"words": f"row {row}", "picture": f"{row}.png", "label": "ab"[row % 2]}))
    (data / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return data


@pytest.mark.slow
def test_rows_that_are_left_out_are_a_note(mmtune, folder):
    assert "note" not in mmtune("check", "s.yaml", "--data", folder).out
    (folder / "7.png").unlink()
    done = mmtune("check", "s.yaml", "--data", folder)
    assert done.code == 0
    (note,) = [line for line in done.out.splitlines() if "note:" in line]
    assert "dataset table: rows left out or repaired: 1, the first: rows.jsonl line 8: no picture 7.png" in note
    assert note.endswith(f"(all: mmtune data check table --data {folder})")


@pytest.mark.slow
def test_rows_without_a_label_are_counted_and_said_to_be_left_out_or_not(mmtune, folder):
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    split = ["train"] * 30 + ["val"] * 10
    for at, row in enumerate(rows):
        row |= {"split": split[at], "label": None if at < 24 else row["label"]}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "table.yaml").write_text(YAML + "split: split\n")

    def note(*given):
        done = mmtune("check", "s.yaml", "--data", folder, *given)
        assert done.code == 0, done.err
        (found,) = [" ".join(line.split()) for line in done.out.splitlines() if "have no label" in line]
        return found

    assert "24 of 30 training rows have no label and are left out" in note()
    taken = note("--set", "fixed.uda.mode=fixed", "--set", "fixed.unlabelled_ratio=3")
    assert "join what needs none: 3 beside each labelled row of a batch" in taken
    searched = note("--set", "space.uda.mode={type: categorical, choices: ['none', fixed]}")
    assert "in some trials, in others they are left out: 1 beside" in searched
    checked = mmtune("data", "check", "table", "--data", folder)
    assert "24 of 30 rows in train have no label" in " ".join(checked.out.split())


@pytest.mark.slow
def test_broken_lines_are_counted(mmtune, folder):
    lines = (folder / "rows.jsonl").read_text().splitlines()
    (folder / "rows.jsonl").write_text("\n".join(line[:-3] if at > 20 else line for at, line in enumerate(lines)))
    done = mmtune("check", "s.yaml", "--data", folder)
    assert done.code == 0 and "rows left out or repaired: 19, the first: rows.jsonl line 22" in done.out


def test_a_modality_that_the_table_lacks_is_one_line(mmtune, folder):
    (folder / "table.yaml").write_text(YAML.replace("image: picture\n", ""))
    image = ("--set", "family=image", "--set", "fixed={epochs: 1, model.image_encoder: tiny-cnn}")
    done = mmtune("check", "s.yaml", "--data", folder, *image)
    assert done.code == 2 and "dataset table has no image, which family image reads here" in done.err


def test_a_missing_column_is_one_line(mmtune, folder):
    (folder / "table.yaml").write_text(YAML.replace("text: words", "text: word"))
    done = mmtune("run", "s.yaml", "--data", folder)
    assert done.code == 2 and "did you mean 'words'?" in done.err and done.err.count("\n") <= 2
    assert not (mmtune.cwd / "studies").exists()


@pytest.mark.slow
def test_what_was_read_otherwise_than_written_is_a_note(mmtune, folder):
    lines = (folder / "rows.jsonl").read_text().replace('"a"', "1").replace('"b"', '"0"').splitlines()
    for at, label in ((3, '"NaN"'), (6, '"1.0"'), (7, "NaN"), (9, "true")):
        lines[at] = lines[at].replace('"label": 1', f'"label": {label}').replace('"label": "0"', f'"label": {label}')
    (folder / "rows.jsonl").write_text("\n".join(lines))
    said = [
        "label label: 2 labels read as missing: empty (1), NaN (1); first rows.jsonl line 4",
        "label label: 1 value in several spellings, 2 times another than the one that is kept: '1' and '1.0' and "
        "'True' as '1'; first rows.jsonl line 7 (normalise: false in table.yaml says otherwise)",
    ]
    done = mmtune("check", "s.yaml", "--data", folder)
    *notes, unlabelled = [line.split("note: ")[1] for line in done.out.splitlines() if "note: " in line]
    assert done.code == 0 and notes == [f"dataset table: {note}" for note in said]
    assert unlabelled.startswith("dataset table: 2 of 32 training rows have no label and are left out")
    done = mmtune("data", "check", "table", "--data", folder)
    assert done.code == 0 and all(f"\n  - {note}\n" in done.out for note in said)

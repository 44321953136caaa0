"""``mmtune data ...`` as people use it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TABLE = """\
files: rows.csv
text: title
image: picture
labels: {kind: {column: kind, kind: multiclass}}
id: id
split: split
"""
KINDS = ("plum", "fig")


def write_toys(root: Path, **texts: str) -> Path:
    """A clean data set of 40 rows in the format ``table``; ``texts`` stand for those of their rows."""
    folder = root / "toys"
    (folder / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for row in range(40):
        words = " ".join(f"word{at}" for at in rng.integers(0, 300, 9))
        split = "train" if row < 28 else "val" if row < 34 else "test"
        rows.append(f"r{row},{texts.get(f'r{row}', words)},pictures/{row}.png,{KINDS[row % 2]},{split}\n")
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((30, 20), Image.Resampling.BICUBIC).save(file, "PNG")
        (folder / f"pictures/{row}.png").write_bytes(file.getvalue())
    (folder / "rows.csv").write_text("id,title,picture,kind,split\n" + "".join(rows))
    (folder / "table.yaml").write_text(TABLE)
    return folder


@pytest.mark.slow
def test_a_clean_dataset(mmtune):
    toys = write_toys(mmtune.cwd)
    done = mmtune(
        "data", "check", "table", "--data", toys, "--text-encoder", "tiny-bert", "--text-encoder", "tiny-roberta",
        "--out", "out/here", "--strict",
    )  # fmt: skip
    assert done.code == 0 and done.err == "", done
    assert "\ntable, 40 rows: nothing to look at\n" in done.out
    assert "tokens of tiny-bert" in done.out and "tokens of tiny-roberta" in done.out
    out = mmtune.cwd / "out/here"
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "samples.png"]
    facts = json.loads((out / "check.json").read_text())
    assert facts["rows"] == {"train": 28, "val": 6, "test": 6} and facts["findings"] == []
    assert facts["text"]["tokens"]["tiny-bert"]["max_text_len"] == 128
    with Image.open(out / "samples.png") as picture:
        assert picture.width > 500


@pytest.mark.slow
def test_what_is_wrong_is_said_and_strict_refuses_it(mmtune):
    toys = write_toys(mmtune.cwd, r39="the same words here", r2="The  same words HERE", r5="now a PLUM")
    (toys / "pictures/7.png").write_bytes(b"no picture")
    with (toys / "rows.csv").open("a") as file:
        file.write("r40,no picture,pictures/40.png,fig,train\n" * 25)
    arguments = ("data", "check", "table", "--data", toys, "--text-encoder", "tiny-bert")
    done = mmtune(*arguments)
    assert done.code == 0 and done.err == ""
    assert "\nrows left out or repaired by the reader: 25\n  rows.csv line 42: no picture pictures/40.png\n" in done.out
    assert (
        "\n  and 5 more: all are in check.json (--out)\n\nimages missing or unreadable: 1\n  r7 (pictures/7.png)"
        in done.out
    )
    assert done.out.count("no picture pictures/40.png") == 20 + 3  # as examples again
    verdict = done.out[done.out.index("table, 40 rows: 3 to look at") :]
    assert "  ! 25 rows left out or repaired by the reader\n" in verdict
    place = "r7 (pictures/7.png) of train: the image cannot be decoded (no known format)"
    assert f"  ! 1 image missing or unreadable\n      {place}\n" in verdict
    assert "  ! 1 row with the same text in an earlier split: 1 test in train\n      r39 (pictures/39.png)" in verdict
    assert list(mmtune.cwd.iterdir()) == [toys]

    strict = mmtune(*arguments, "--strict", "--out", "out")
    assert strict.code == 2 and strict.out.startswith(done.out)
    assert strict.err == (
        "mmtune: dataset table: 25 rows left out or repaired by the reader; 1 image missing or unreadable; "
        "1 row with the same text in an earlier split: 1 test in train\n"
    )
    facts = json.loads((mmtune.cwd / "out/check.json").read_text())
    assert len(facts["problems"]) == 25 and [one["is_strict"] for one in facts["findings"]] == [True] * 3
    assert (mmtune.cwd / "out/samples.png").exists()


def test_rows_left_out_on_purpose_are_no_defect(mmtune):
    toys = write_toys(mmtune.cwd)
    (toys / "pictures/7.png").write_bytes(b"no picture")
    (toys / "exclude.txt").write_text("r7\n")
    done = mmtune("data", "check", "table", "--data", toys, "--text-encoder", "tiny-bert", "--strict")
    assert done.code == 0 and done.err == ""
    assert done.out.endswith("table, 39 rows: 1 to look at\n  - 1 row left out by exclude.txt\n")


def test_an_embedded_dataset(mmtune):
    arguments = ("--target", "label", "--text-encoder", "tiny-bert", "--max-rows", 400, "--max-text-len", 4)
    done = mmtune("data", "check", "openclipart", *arguments)
    assert done.code == 0 and done.err == ""
    assert "of 3,290 rows: " in done.out and "are cut" in done.out and "tags" not in done.out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cliparts"], "dataset 'cliparts' is unknown, did you mean 'openclipart'? Known: amazon"),
        (["table"], "dataset table needs --data DIR"),
        (["table", "--data", "toys"], "toys/rows.csv"),
        (["openclipart", "--target", "lable"], "target 'lable' is unknown for dataset openclipart. Known: label, tags"),
        (["openclipart", "--text-encoder", "tiny-bird"], "encoder 'tiny-bird' is unknown"),
        (["openclipart", "--out", "file"], "--out file is no folder"),
    ],
)
def test_a_mistake_is_one_line(mmtune, arguments, message):
    (mmtune.cwd / "file").touch()
    (mmtune.cwd / "toys").mkdir()
    (mmtune.cwd / "toys/table.yaml").write_text(TABLE)
    done = mmtune("data", "check", *arguments)
    assert done.code == 2 and done.out == "" and done.err.count("\n") == 1
    assert done.err.startswith("mmtune: ") and message in done.err
    assert sorted(path.name for path in mmtune.cwd.iterdir()) == ["file", "toys"]


@pytest.mark.slow
def test_text_encoders_for_a_dataset_without_text(mmtune):
    toys = write_toys(mmtune.cwd)
    (toys / "table.yaml").write_text(TABLE.replace("text: title\n", ""))
    done = mmtune("data", "check", "table", "--data", toys, "--text-encoder", "tiny-bert")
    assert done.code == 2 and done.err.endswith("has no text: --text-encoder tiny-bert would be ignored\n")
    assert mmtune("data", "check", "table", "--data", toys).code == 0

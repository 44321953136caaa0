import pytest
from disk import classes, jsonl, png, write_files

from trainables.data.formats import snli_ve

LABELS = ("entailment", "neutral", "contradiction")


def pair(number, picture, label, key="Flikr30kID"):
    return {
        "pairID": f"{picture}#{number}r1n", key: picture, "gold_label": label, "sentence1": "the caption",
        "sentence2": f"hypothesis {number}", "captionID": f"{picture}#0", "annotator_labels": [label],
        "sentence1_binary_parse": "( x )",
    }  # fmt: skip


def write(folder):
    """Both spellings of the picture's id, with and without its suffix."""
    write_files(folder, {f"flickr30k-images/{id}.jpg": png(id) for id in (10, 20, 30)})
    write_files(
        folder,
        {
            "snli_ve_train.jsonl": jsonl(
                pair(0, "10.jpg", "entailment"),
                pair(1, "10", "neutral"),
                pair(2, "10", "contradiction", "Flickr30K_ID"),
            ),
            "snli_ve_dev.jsonl": jsonl(pair(3, "20.jpg", "neutral", "Flickr30K_ID")),
            "snli_ve_test.jsonl": jsonl(pair(4, "30", "contradiction"), pair(5, "30.jpg", "entailment")),
        },
    )


def test_pairs_and_pictures(tmp_path):
    write(tmp_path)
    table = snli_ve.read(str(tmp_path))
    assert table.split.tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert table.texts == [f"hypothesis {number}" for number in range(6)]
    assert classes(table) == [*LABELS, "neutral", "contradiction", "entailment"]
    assert list(table.images) == [png(10)] * 3 + [png(20), png(30), png(30)]
    assert table.problems == []


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    no_picture = pair(9, "10", "neutral")
    del no_picture["Flikr30kID"]
    bad = [pair(6, "10", "-"), pair(7, "99", "neutral"), pair(1, "10", "neutral"), no_picture]
    with (tmp_path / "snli_ve_train.jsonl").open("a") as file:
        file.write(jsonl(*bad))
    table = snli_ve.read(str(tmp_path))
    assert len(table.ids) == 6
    assert table.problems == [
        "snli_ve_train.jsonl line 4: 'gold_label' is '-', none of entailment, neutral, contradiction",
        "snli_ve_train.jsonl line 5: no picture flickr30k-images/99.jpg",
        "snli_ve_train.jsonl line 6: id 10#1r1n was there before",
        "snli_ve_train.jsonl line 7: no 'Flickr30K_ID' or 'Flikr30kID'",
    ]
    assert [(one.before, one.id, one.split) for one in table.left_out] == [
        (3, "10#6r1n", "train"), (3, "99#7r1n", "train"), (3, "10#1r1n", "train"), (3, "10#9r1n", "train"),
    ]  # fmt: skip


@pytest.mark.parametrize("gone", ["snli_ve_dev.jsonl", "flickr30k-images"])
def test_what_is_missing_is_named(tmp_path, gone):
    write(tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"has no (folder )?{gone}. Known layouts: snli_ve_train.jsonl"):
        snli_ve.read(str(tmp_path))

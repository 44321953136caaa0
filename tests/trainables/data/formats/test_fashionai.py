from collections import Counter

import pytest
from disk import by_id, classes, png, write_files

from trainables.data.formats import fashionai


def line(attribute, name, value):
    return f"Images/{attribute}_labels/{name}.jpg,{attribute}_labels,{value}\n"


def write(folder):
    """Thirty skirts, ten of them also labelled for their necks, web pictures, and questions without answers."""
    skirts = [line("skirt_length", f"s{at}", ("ynnnnn", "nnymnn", "nnnnny")[at % 3]) for at in range(30)]
    necks = [line("neck_design", f"s{at}", "nynnn" if at % 2 else "nnnmy") for at in range(10)]
    web = [line("skirt_length", f"w{at}", "nynnnn") for at in range(10)]
    write_files(
        folder,
        {
            "base/Annotations/label.csv": "".join(skirts + necks),
            "web/Annotations/skirt_length_labels.csv": "".join(web),
            "rank/Tests/question.csv": line("skirt_length", "q0", "??????") + line("neck_design", "q1", ""),
            "rank/Images/skirt_length_labels/q0.jpg": png(7), "rank/Images/neck_design_labels/q1.jpg": png(8),
        },
    )  # fmt: skip
    write_files(folder, {f"base/Images/skirt_length_labels/s{at}.jpg": png(at) for at in range(30)})
    write_files(folder, {f"base/Images/neck_design_labels/s{at}.jpg": png(at) for at in range(10)})
    write_files(folder, {f"web/Images/skirt_length_labels/w{at}.jpg": png(at, 1) for at in range(10)})


def groups(table):
    return [id.rpartition("/")[2] for id in table.ids]


def test_an_attribute_is_a_target(tmp_path):
    write(tmp_path)
    table = fashionai.read(str(tmp_path))
    assert [target.task.num_outputs for target in table.targets.values()] == [6, 8, 5, 5, 5, 10, 6, 9]
    skirt = by_id(table, classes(table, "skirt_length"))
    neck = by_id(table, classes(table, "neck_design"))
    assert skirt["base/Images/skirt_length_labels/s1.jpg"] == "Knee Length"  # y, and the m beside it is no label
    assert neck["base/Images/neck_design_labels/s2.jpg"] == "Draped Collar"
    assert neck["base/Images/skirt_length_labels/s2.jpg"] is None is skirt["base/Images/neck_design_labels/s2.jpg"]
    assert Counter(label for label in skirt.values() if label) == {
        "Invisible": 10, "Knee Length": 10, "Floor Length": 10, "Short Length": 10,
    }  # fmt: skip
    assert table.texts is None and by_id(table, table.images)["web/Images/skirt_length_labels/w3.jpg"] == png(3, 1)
    assert table.problems == []


def test_without_answers_a_part_of_the_labelled_rows_is_the_test(tmp_path):
    write(tmp_path)
    table = fashionai.read(str(tmp_path))
    split = by_id(table, table.split.tolist())
    assert split["rank/Images/skirt_length_labels/q0.jpg"] == "test"
    labelled = Counter(split for split, label in zip(table.split.tolist(), classes(table), strict=True) if label)
    assert labelled["val"] >= 2 and labelled["test"] >= 2 and labelled["train"] >= 30


def test_answers_are_the_test(tmp_path):
    write(tmp_path)
    answers = line("skirt_length", "q0", "nnnynn") + line("skirt_length", "s4", "nnnynn")
    write_files(tmp_path, {"rank/Tests/answer_a.csv": answers, "rank/Images/skirt_length_labels/s4.jpg": png(4)})
    table = fashionai.read(str(tmp_path))
    test = {
        id: label for id, split, label in zip(table.ids, table.split, classes(table), strict=True) if split == "test"
    }
    assert test == {
        "rank/Images/skirt_length_labels/q0.jpg": "Midi Length",
        "rank/Images/skirt_length_labels/s4.jpg": "Midi Length",
        "rank/Images/neck_design_labels/q1.jpg": None,
        "base/Images/skirt_length_labels/s4.jpg": "Knee Length",  # the same picture
        "base/Images/neck_design_labels/s4.jpg": None,
    }
    assert table.problems == []


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    with (tmp_path / "base/Annotations/label.csv").open("a") as file:
        file.write(
            line("skirt_length", "s0", "nnnnn") + line("hat", "s0", "yn") + line("skirt_length", "s99", "ynnnnn")
        )
        file.write(
            line("neck_design", "s0", "yynnn")
            + line("neck_design", "s0", "?????")
            + "Images/x.jpg,skirt_length_labels\n"
        )
    table = fashionai.read(str(tmp_path))
    where = "base/Annotations/label.csv line"
    assert table.problems == [
        f"{where} 41: 'nnnnn' is not 6 letters y, n or m for skirt_length",
        f"{where} 42: attribute 'hat_labels' is none of {', '.join(fashionai.TARGETS)}",
        f"{where} 43: no picture base/Images/skirt_length_labels/s99.jpg",
        f"{where} 44: 'yynnn' has 2 y, not one",
        f"{where} 45: '?????' is not 5 letters y, n or m for neck_design",
        f"{where} 46: 2 fields, not 3",
    ]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no base/Annotations/label.csv. Known layouts"):
        fashionai.sources(str(tmp_path))

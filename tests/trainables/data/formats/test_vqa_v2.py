import json

import numpy as np
import pytest
from disk import by_id, classes, png, write_files

from trainables.data.formats import vqa_v2
from trainables.data.reading.sparse import SparseRows
from trainables.metrics import compute_metrics


def questions(*entries):
    rows = [{"image_id": image, "question": text, "question_id": id} for id, image, text in entries]
    return {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}, "questions": rows}


def annotations(*entries):
    """(question, picture, ten answers)"""
    rows = [
        {
            "question_type": "is the", "answer_type": "other", "question_id": id, "image_id": image,
            "multiple_choice_answer": max(answers, key=answers.count),
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": at} for at, answer in enumerate(answers, 1)
            ],
        }
        for id, image, answers in entries
    ]  # fmt: skip
    return {"info": {}, "data_subtype": "train2014", "annotations": rows}


def write(folder):
    """40 training questions about 20 pictures, 4 about 2 of val2014, 2 without answers."""
    train = [(100 + at, at // 2, "yes" if at % 2 else "no") for at in range(40)]
    val = [(900 + at, 50 + at // 2, answer) for at, answer in enumerate(["yes", "no", "Blue ", "unheard"])]
    write_files(
        folder,
        {
            "v2_OpenEnded_mscoco_train2014_questions.json": questions(
                *((id, image, f"q {id}?") for id, image, _ in train)
            ),
            "v2_mscoco_train2014_annotations.json": annotations(
                *((id, image, [answer] * 7 + ["blue"] * 2 + ["red"]) for id, image, answer in train)
            ),
            "v2_OpenEnded_mscoco_val2014_questions.json": questions(*((id, image, f"q {id}?") for id, image, _ in val)),
            "v2_mscoco_val2014_annotations.json": annotations(*((id, image, [a] * 10) for id, image, a in val)),
            "v2_OpenEnded_mscoco_test2015_questions.json": questions((1, 70, "what?"), (2, 70, "why?")),
            "test2015/COCO_test2015_000000000070.jpg": png(70),
        },
    )
    write_files(folder, {f"train2014/COCO_train2014_{at:012d}.jpg": png(at) for at in range(20)})
    write_files(folder, {f"val2014/COCO_val2014_{at:012d}.jpg": png(at) for at in (50, 51)})


def groups(table):
    return table.images.names


def test_splits_and_rows(tmp_path):
    write(tmp_path)
    table = vqa_v2.read(str(tmp_path))
    split = by_id(table, table.split.tolist())
    assert {split[str(id)] for id in range(900, 904)} == {"test"} and {split["1"], split["2"]} == {"test"}
    assert [list(split.values()).count(name) for name in ("train", "val", "test")] == [36, 4, 6]
    assert by_id(table, table.texts)["107"] == "q 107?"
    assert by_id(table, table.images)["107"] == png(3)
    assert table.problems == []


def test_soft_labels(tmp_path):
    """Ten people: seven yes (1), two blue (2/3), one red (1/3); only most frequent answers are classes."""
    write(tmp_path)
    document = json.loads((tmp_path / "v2_mscoco_train2014_annotations.json").read_text())
    for item, answer in zip(document["annotations"], [*["blue"] * 3, *["yes"] * 20, *["no"] * 17], strict=True):
        item["multiple_choice_answer"] = answer
    write_files(tmp_path, {"v2_mscoco_train2014_annotations.json": document})
    table = vqa_v2.read(str(tmp_path))
    target = table.targets["answers"]
    assert set(target.task.classes) == {"yes", "no", "blue"} and target.task.classes[2] == "blue"  # red never leads
    row = table.ids.index("101")
    named = dict(zip(target.task.classes, target.labels[[row]][0].tolist(), strict=True))
    assert named == pytest.approx({"yes": 1.0, "no": 0.0, "blue": 2 / 3})
    found = by_id(table, classes(table))
    assert found["902"] == {"blue"}  # capitals and spaces do not matter
    assert found["903"] == set()  # an answer that is no class is missed, not left out of the test
    assert found["1"] is None


def test_the_metric_counts_the_people_of_the_annotations(tmp_path):
    """A model that always says blue: two of ten said so of 40 rows, all ten of one of the 4 of val2014."""
    write(tmp_path)
    document = json.loads((tmp_path / "v2_mscoco_train2014_annotations.json").read_text())
    document["annotations"][0]["multiple_choice_answer"] = "blue"  # so that it is a class
    write_files(tmp_path, {"v2_mscoco_train2014_annotations.json": document})
    target = vqa_v2.read(str(tmp_path)).targets["answers"]
    rows = np.flatnonzero(target.is_labelled)
    logits = np.tile([float(name == "blue") for name in target.task.classes], (len(rows), 1))
    found = compute_metrics(logits, target.labels[rows], target.task)
    assert found["vqa_accuracy"] == pytest.approx((40 * 2 / 3 + 1) / 44)


def test_training_rows_without_a_class_take_no_part(tmp_path):
    write(tmp_path)
    document = json.loads((tmp_path / "v2_mscoco_train2014_annotations.json").read_text())
    document["annotations"][7]["answers"] = [{"answer": "odd", "answer_id": at} for at in range(10)]
    write_files(tmp_path, {"v2_mscoco_train2014_annotations.json": document})
    table = vqa_v2.read(str(tmp_path))
    at = table.ids.index("107")
    assert table.targets["answers"].is_labelled[at] == (table.split[at] == "val")


def test_the_most_frequent_answers_are_the_classes(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(vqa_v2, "SIZES", {"answers": 2, "answers1000": 1})
    table = vqa_v2.read(str(tmp_path))
    assert [target.task.num_outputs for target in table.targets.values()] == [2, 1]
    counts = {name: 0 for name in ("yes", "no")}
    for id, split in by_id(table, table.split).items():
        if split == "train":
            counts["yes" if int(id) % 2 else "no"] += 1
    best = max(sorted(counts), key=lambda name: counts[name])
    assert table.targets["answers1000"].task.classes == (best,)


def test_folders_of_the_vqa_tools(tmp_path):
    write(tmp_path)
    plain = vqa_v2.read(str(tmp_path))
    for name in ("Questions", "Annotations", "Images/mscoco"):
        (tmp_path / name).mkdir(parents=True)
    for path in [*tmp_path.glob("v2_*")]:
        path.rename(tmp_path / ("Questions" if "OpenEnded" in path.name else "Annotations") / path.name)
    for name in ("train2014", "val2014", "test2015"):
        (tmp_path / name).rename(tmp_path / "Images/mscoco" / name)
    table = vqa_v2.read(str(tmp_path))
    assert (table.ids, table.split.tolist()) == (plain.ids, plain.split.tolist())


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    (tmp_path / "train2014/COCO_train2014_000000000003.jpg").unlink()
    (tmp_path / "test2015/COCO_test2015_000000000070.jpg").unlink()
    (tmp_path / "test2015").rmdir()
    name = "v2_OpenEnded_mscoco_val2014_questions.json"
    document = json.loads((tmp_path / name).read_text())
    document["questions"] += [
        {"question_id": 5, "image_id": 50, "question": "x"},
        7,
        {"question_id": 6, "image_id": "50"},
    ]
    write_files(tmp_path, {name: document})
    table = vqa_v2.read(str(tmp_path))
    train = "v2_OpenEnded_mscoco_train2014_questions.json: entry {} of 'questions': no picture {}"
    assert table.problems == [
        *(train.format(at, "train2014/COCO_train2014_000000000003.jpg") for at in (7, 8)),
        f"{name}: entry 5 of 'questions': question 5 has no annotation",
        f"{name}: entry 6 of 'questions': is no object",
        f"{name}: entry 7 of 'questions': no 'image_id'",
        "v2_OpenEnded_mscoco_test2015_questions.json: no folder test2015 with pictures: "
        "2 questions without labels left out",
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"questions": [\n{]}', "val2014_questions.json line 2: not JSON"),
        ('{"annotations": []}', "val2014_questions.json: no list 'questions' in it"),
        (b"\n\xff", "line 2: not UTF-8 at byte 2"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    write(tmp_path)
    write_files(tmp_path, {"v2_OpenEnded_mscoco_val2014_questions.json": content})
    with pytest.raises(ValueError) as caught:
        vqa_v2.read(str(tmp_path))
    assert message in str(caught.value)


def test_sparse_rows_read_like_an_array():
    rng = np.random.default_rng(0)
    dense = (rng.random((7, 5)) * (rng.random((7, 5)) < 0.3)).astype(np.float32)
    sparse = SparseRows([{int(c): float(row[c]) for c in np.flatnonzero(row)} for row in dense], 5)
    assert sparse.shape == dense.shape and len(sparse) == 7
    for index in (3, -1, slice(2, 5), [4, 4, 0], np.array([6, 1]), np.arange(7) % 2 == 0, np.array([], int)):
        found = sparse[index]
        assert found.dtype == np.float32 and found.shape == dense[index].shape and (found == dense[index]).all()
    assert (np.asarray(sparse) == dense).all()

"""VQA v2 (Goyal et al. 2017): answers to questions about COCO pictures, as a multi-label task with soft labels.

The classes are the most frequent answers of the training part; an answer that k of the ten people gave counts
min(k / 3, 1). The official labels end with val2014, so that is the test split here, and validation is a tenth
of the train2014 pictures with all their questions. Questions of test2015 stay without labels.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np

from trainables.data.reading.fields import BadRow, clean, id_of, text_of
from trainables.data.reading.folder import data_folder, first_there, missing
from trainables.data.reading.rows import Rows
from trainables.data.reading.sparse import SparseRows
from trainables.data.reading.splits import held_out
from trainables.data.reading.table import Table, Target
from trainables.data.reading.textfiles import json_document
from trainables.task import Task

SUMMARY = "questions about COCO pictures; the 3,129 (answers) or 1,000 (answers1000) most frequent answers, soft"
IS_EMBEDDED = False
TARGETS = {"answers": "multilabel", "answers1000": "multilabel"}

_NAME = "vqa_v2"
SIZES = {"answers": 3129, "answers1000": 1000}
_VAL = 0.1  # of the train2014 pictures
_LAYOUTS = (
    "v2_OpenEnded_mscoco_{train2014,val2014}_questions.json (or in Questions/), "
    "v2_mscoco_{train2014,val2014}_annotations.json (or in Annotations/), "
    "train2014/ and val2014/ (or in images/, Images/, Images/mscoco/)",
)

Answers = dict[str, int]


def sources(data_dir: str | None) -> list[Path]:
    """Questions and annotations of both labelled parts, and the questions of a test part if there are any.

    Raises:
        ValueError: no folder, or a file is missing.
    """
    return list(_files(data_folder(_NAME, data_dir)).values())


def read(data_dir: str | None) -> Table:
    """All questions whose picture is there.

    Raises:
        ValueError: as for :func:`sources`, or a file that is not what the VQA tools read.
    """
    root = data_folder(_NAME, data_dir)
    files, rows = _files(root), Rows(_NAME, root)
    for part in ("train2014", "val2014"):
        answers = _answers(files[f"{part} annotations"], rows)
        _add_questions(rows, files[f"{part} questions"], part, answers)
    if "test2015 questions" in files:
        _add_questions(rows, files["test2015 questions"], "test2015", None)
    rows.check()
    split, answers = _split(rows), rows.column("answers")
    counts = Counter(most for part, most in zip(split, rows.column("most"), strict=True) if part == "train" and most)
    ranked = sorted(counts, key=lambda answer: (-counts[answer], answer))
    return rows.table({name: _target(ranked[:size], answers, split) for name, size in SIZES.items()}, split=split)


def _files(root: Path) -> dict[str, Path]:
    found = {}
    for part in ("train2014", "val2014"):
        for kind, name, folder in (
            ("questions", f"v2_OpenEnded_mscoco_{part}_questions.json", "Questions"),
            ("annotations", f"v2_mscoco_{part}_annotations.json", "Annotations"),
        ):
            path = first_there(root, (name, f"{folder}/{name}"))
            if path is None:
                raise missing(_NAME, root, name, _LAYOUTS)
            found[f"{part} {kind}"] = path
    for part in ("test2015", "test-dev2015"):  # the second is a part of the first
        name = f"v2_OpenEnded_mscoco_{part}_questions.json"
        path = first_there(root, (name, f"Questions/{name}"))
        if path is not None:
            return found | {"test2015 questions": path}
    return found


def _pictures(root: Path, part: str) -> str | None:
    folder = first_there(root, (part, f"images/{part}", f"Images/{part}", f"Images/mscoco/{part}"))
    return None if folder is None else folder.relative_to(root).as_posix()


def _add_questions(rows: Rows, path: Path, part: str, answers: dict[str, tuple[str, Answers]] | None) -> None:
    questions = _list_in(path, "questions")
    folder = _pictures(rows.root, part)
    if folder is None and answers is None:
        rows.note(path, None, f"no folder {part} with pictures: {len(questions)} questions without labels left out")
        return
    if folder is None:
        raise missing(_NAME, rows.root, f"folder {part}", _LAYOUTS)
    for number, row in enumerate(questions, 1):
        with rows.sample(path, None, id=f"{path.name} entry {number}", split="" if part == "train2014" else "test"):
            try:
                if not isinstance(row, dict):
                    raise BadRow("is no object")
                id, image = rows.named(id_of(row, "question_id")), row.get("image_id")
                if isinstance(image, bool) or not isinstance(image, int):
                    raise BadRow("no 'image_id'")
                most, given = (None, None) if answers is None else answers.get(id, (None, None))
                if answers is not None and given is None:
                    raise BadRow(f"question {id} has no annotation")
                rows.add(
                    id=id, split=part, text=text_of(row, "question"), most=most, answers=given,
                    image=f"{folder}/COCO_{part}_{image:012d}.jpg",
                )  # fmt: skip
            except BadRow as error:
                raise BadRow(f"entry {number} of 'questions': {error}") from None


def _answers(path: Path, rows: Rows) -> dict[str, tuple[str, Answers]]:
    """Question -> the most common answer, and how many people gave which."""

    def smaller(item: dict[str, Any]) -> Any:
        if "answer_id" in item and isinstance(item.get("answer"), str):
            return _same(item["answer"])
        if "question_id" in item and isinstance(item.get("answers"), list):
            given = Counter(answer for answer in item["answers"] if isinstance(answer, str))
            return item["question_id"], item.get("multiple_choice_answer"), dict(given)
        return item

    found: dict[str, tuple[str, Answers]] = {}
    for number, item in enumerate(_list_in(path, "annotations", smaller), 1):
        if not isinstance(item, tuple) or not isinstance(item[0], int | str) or not isinstance(item[1], str):
            rows.note(path, None, f"entry {number} of 'annotations': no question_id, multiple_choice_answer or answers")
        else:
            with rows.at(path):
                found[id_of({"question_id": item[0]}, "question_id")] = (_same(item[1]), item[2])
    return found


def _same(answer: str) -> str:
    return sys.intern(clean(answer).strip().lower())


def _list_in(path: Path, key: str, object_hook: Any = None) -> list[Any]:
    document = json_document(path, object_hook)
    if not isinstance(document, dict) or not isinstance(document.get(key), list):
        raise ValueError(f"{path}: no list '{key}' in it")
    return document[key]


def _split(rows: Rows) -> np.ndarray:
    part = np.array(rows.splits)
    split = np.where(part == "train2014", "train", "test").astype("<U5")
    train = np.flatnonzero(part == "train2014")
    pictures = [(rows.images[row] or "").rpartition("/")[2] for row in train]
    is_val = held_out([rows.ids[row] for row in train], share=_VAL, groups=pictures)
    split[train[is_val]] = "val"
    return split


def _target(classes: list[str], answers: list[Answers | None], split: np.ndarray) -> Target:
    """Training rows none of whose answers is a class are not labelled; in validation and test they count as missed."""
    index = {answer: at for at, answer in enumerate(classes)}
    hot = [
        {index[answer]: min(count / 3, 1) for answer, count in (row or {}).items() if answer in index}
        for row in answers
    ]
    is_labelled = np.array([row is not None for row in answers]) & (
        (split != "train") | np.array([bool(row) for row in hot])
    )
    labels = cast(np.ndarray, SparseRows(hot, len(classes)))  # dense, all rows would take gigabytes
    return Target(task=Task(kind="multilabel", classes=tuple(classes)), labels=labels, is_labelled=is_labelled)

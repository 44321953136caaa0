"""Which rows of several files are kept, and which split they are in."""

from __future__ import annotations

import numpy as np
import pytest
from disk import BY_SPLIT, ONE, by_id, classes, read, refused


def test_ids_that_start_anew_in_each_file_are_all_kept(tmp_path):
    def part(num):
        return "id,t,y\n" + "".join(f"{at},x{at},{at % 2}\n" for at in range(num))

    table = read(tmp_path, BY_SPLIT + "id: id\n", a__csv=part(6), b__csv=part(8), c__csv=part(3))
    assert [(table.split == name).sum() for name in ("train", "val", "test")] == [6, 8, 3]
    assert len(set(table.ids)) == 17 and table.ids[6:9] == ["b.csv:0", "b.csv:1", "b.csv:2"]
    assert by_id(table, classes(table))["b.csv:1"] == "1" and table.problems == []
    assert table.notes == [
        f"{name}: {num} times an id that an earlier file has, too: the file's name is put before it; "
        f"first {name} line 2: 0"
        for name, num in (("b.csv", 6), ("c.csv", 3))
    ]


def test_the_root_cause_comes_first(tmp_path):
    rows = "id,t,y\n" + "".join(f"{at % 20},x{at},{'ab'[at // 20]}\n" for at in range(40))
    message = refused(tmp_path, ONE + "id: id\n", d__csv=rows)
    assert message == (
        "table.yaml: id: column 'id' is no id: of 20 rows it was there before, 20 rows are left; "
        "the first: d.csv line 22: id 0 was there before"
    )
    rows = "id,t,y\n1,x,a\n2,y,a\n3,z,a\n1,x,b\n"
    assert refused(tmp_path, ONE + "id: id\n", d__csv=rows) == (
        "table.yaml: labels.y: column 'y': 1 row left out or repaired, the first: d.csv line 5: id 1 was there before; "
        "of the others all labelled rows are 'a'"
    )


def test_a_validation_file_of_which_nothing_can_be_used_is_no_missing_one(tmp_path):
    train = "id,t,y\n" + "".join(f"{at},x,{'ab'[at % 2]}\n" for at in range(20))
    message = refused(tmp_path, BY_SPLIT + "id: id\n", a__csv=train, b__csv="id,t,y\n1,x\n", c__csv=train)
    assert message == (
        "table.yaml: files.val: 1 row left out or repaired, the first: b.csv line 2: 2 fields, not 3; of the others "
        "none is in val"
    )


@pytest.mark.parametrize("by", ["files", "column"])
def test_a_validation_split_is_held_out_where_there_is_none(tmp_path, by):
    lines = [f"k{at},x{at},{'ab'[at % 2]}" for at in range(100)]
    if by == "files":
        yaml = "files: {train: a.csv, test: c.csv}\nid: id\ntext: t\nlabels: {y: {kind: multiclass}}\n"
        files = {"a__csv": "\n".join(["id,t,y", *lines[:80]]), "c__csv": "\n".join(["id,t,y", *lines[80:]])}
    else:
        yaml = ONE + "id: id\nsplit: s\n"
        rows = [f"{line},{'train' if at < 80 else 'TEST'}" for at, line in enumerate(lines)]
        files = {"d__csv": "\n".join(["id,t,y,s", *rows])}
    table = read(tmp_path, yaml, **files)
    is_val = table.split == "val"
    assert is_val.sum() == 8 and set(table.split[80:]) == {"test"} and (table.split[:80] != "test").all()
    assert sorted(np.array(classes(table))[is_val]) == ["a"] * 4 + ["b"] * 4
    assert table.notes == [
        "no row is in val: 8 of 80 training rows are held out for it, by the hash of their ids, the same with every "
        "seed"
    ]
    again = read(
        tmp_path,
        yaml,
        **{name: "\n".join([text.split("\n")[0], *text.split("\n")[:0:-1]]) for name, text in files.items()},
    )
    assert by_id(again, again.split.tolist()) == by_id(table, table.split.tolist())


def test_groups_stay_together_when_validation_is_held_out(tmp_path):
    rows = ["t,y,g,s", *(f"x,{'ab'[at % 2]},{'NaN' if at < 6 else at // 3},train" for at in range(90)), "x,a,z,test"]
    table = read(tmp_path, ONE + "group: g\nsplit: s\n", d__csv="\n".join(rows))
    groups = {at // 3: set(table.split[at : at + 3]) for at in range(6, 90, 3)}
    assert all(len(parts) == 1 for parts in groups.values()) and "val" in set.union(*groups.values())
    assert table.notes[0].endswith("by the hash of their groups, the same with every seed")

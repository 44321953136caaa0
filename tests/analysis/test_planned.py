"""What a study was thought to take beside what it took: in a table, a file and the page."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.planned import planned_table
from analysis.report import write_report
from mmtune import records

PLAN = {"trials": 4, "epochs": 12.0, "device_hours": 0.02, "wall_hours": 0.5, "peak_memory_gib": 2.0, "disk_gib": 1.0}


@pytest.fixture
def study(studies):
    path = studies.of(studies.trial(0, device_seconds=60.0), studies.trial(1, peak_memory_gib=1.0, device_seconds=30.0))
    folder = records.StudyFolder(path)
    info = records.read_json(folder.info) | {"plan": {**PLAN, "is_probed": True}}
    records.write_json(folder.info, info | {"sessions": [{"seconds": 600.0}, {"seconds": 300.0}]})
    return folder


def test_each_quantity_is_beside_what_came(study):
    table = planned_table([study.root]).set_index("quantity")
    assert list(table["planned"]) == [4, 12, 0.02, 0.5, 2, 1] and list(table["is_probed"]) == [True] * 6
    came = dict(zip(PLAN, table["came"], strict=True))
    assert came["trials"] == 2 and came["epochs"] == 6 and came["peak_memory_gib"] == 1.5
    assert came["device_hours"] == pytest.approx(90 / 3600) and came["wall_hours"] == pytest.approx(900 / 3600)
    bytes_there = sum(path.stat().st_size for path in study.root.rglob("*") if path.is_file())
    assert came["disk_gib"] == bytes_there / 2**30
    assert list(table["ratio"]) == pytest.approx([came[name] / PLAN[name] for name in PLAN])


@pytest.mark.slow
def test_the_report_has_it_and_is_the_same_when_made_again(study):
    files = write_report([study.root])
    assert files.planned is not None
    first = files.planned.read_text()
    assert list(pd.read_csv(files.planned)["ratio"])[:2] == [0.5, 0.5]
    assert "What it was thought to take, and what it took" in files.html.read_text()
    write_report([study.root])
    assert files.planned.read_text() == first


@pytest.mark.slow
def test_a_study_without_a_plan_has_no_such_table(studies):
    path = studies.of(studies.trial(0))
    assert planned_table([path]).empty and write_report([path]).planned is None

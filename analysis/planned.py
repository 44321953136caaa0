"""What a study was thought to take when it was created, beside what it took."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.studies import Paths, load_studies, study_cost, study_folders
from mmtune import records
from mmtune.records import StudyFolder

FILE = "planned.csv"
_ABOUT = {  # key of study.json's plan -> what it is called
    "trials": "trials",
    "epochs": "epochs",
    "device_hours": "device-hours of trials",
    "wall_hours": "hours from start to end",
    "peak_memory_gib": "peak memory of a trial, GiB",
    "disk_gib": "its folder, GiB",
}


def planned_table(paths: Paths) -> pd.DataFrame:
    """A row a study and quantity: study, quantity, planned, came, ratio (came / planned), is_probed; no rows of studies
    without a plan, and none of what the plan does not say.

    Raises:
        ValueError: a path is no study, or holds no trial yet.
    """
    rows = []
    for study, folder in study_folders(paths).items():
        plan = records.read_json(folder.info).get("plan")
        if plan is None:
            continue
        came = _came(folder)
        for key, about in _ABOUT.items():
            if key in plan:
                rows.append(
                    {
                        "study": study,
                        "quantity": about,
                        "planned": float(plan[key]),
                        "came": came[key],
                        "ratio": came[key] / plan[key] if plan[key] else math.nan,
                        "is_probed": bool(plan.get("is_probed")),
                    }
                )
    return pd.DataFrame(rows, columns=["study", "quantity", "planned", "came", "ratio", "is_probed"])


def _came(folder: StudyFolder) -> dict[str, float]:
    table, cost = load_studies([folder.root]), study_cost(folder.root)
    sessions: list[dict[str, Any]] = records.read_json(folder.info).get("sessions", [])
    peaks = table["peak_memory_gib"] if "peak_memory_gib" in table else pd.Series(dtype=float)
    return {
        "trials": float(len(table)),
        "epochs": float(table["epochs"].to_numpy().sum()),
        "device_hours": cost.device_hours - cost.cache_hours,
        "wall_hours": math.fsum(session.get("seconds", 0.0) for session in sessions) / 3600,
        "peak_memory_gib": float(np.fmax.reduce(peaks.to_numpy(float), initial=math.nan)),
        "disk_gib": _bytes(folder) / 2**30,
    }


def _bytes(folder: StudyFolder) -> int:
    """Of the folder, its report aside."""
    files = (path for path in folder.root.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if not path.is_relative_to(folder.report))

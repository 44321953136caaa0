"""What the best model of each family is: what it reads, its encoders, its size, memory and time."""

from __future__ import annotations

import pandas as pd
import yaml

from analysis.best import best_trial, usable_trials
from analysis.studies import Paths, study_folders
from trainables.modelfolder import CONFIG, FACTS, ModelFacts, read_facts

_FIGURES = ("num_parameters", "num_trainable", "peak_memory_gib", "inference_ms_per_sample", "inference_ms_single")
_FUSION = ("kind", "fusion")  # keys of model: that say how modalities meet


def model_table(paths: Paths, table: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """A row a study and family: study, dataset, family, trial, the metric, reads, fusion, encoders, sizes and costs.

    ``encoders`` names each modality's, with "(locked)" where it does not train. What the model's folder does not say is
    empty. The trial is the best of the family in that study.
    """
    folders = study_folders(paths)
    rows = []
    for (study, family), trials in usable_trials(table, metric).groupby(["study", "family"], sort=True):  # pyright: ignore[reportGeneralTypeIssues]
        best = best_trial(trials, metric, mode)
        folder = folders[study].trial(str(best.at["trial"]))
        facts = read_facts(folder) if (folder / FACTS).is_file() else None
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
        model = config.get("model") or {}
        rows.append(
            {
                "study": study,
                "dataset": config.get("dataset"),
                "family": family,
                "trial": best.at["trial"],
                metric: best.at[metric],
                "reads": "" if facts is None else " ".join(facts.modalities),
                "fusion": next((str(model[key]) for key in _FUSION if model.get(key)), ""),
                "encoders": _encoders(facts),
                **{name: best.get(name) for name in _FIGURES},
            }
        )
    return pd.DataFrame(rows)


def _encoders(facts: ModelFacts | None) -> str:
    if facts is None:
        return ""
    return ", ".join(f"{use.name}{' (locked)' if use.is_locked else ''}" for _, use in sorted(facts.encoders.items()))

"""Failed trials run again under their own ids: what ``mmtune resume --retry-failed`` does before the session begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmtune.records import StudyFolder, trial_number
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.failures import may_pass
from mmtune.study.ledger import open_ledger


def reopen_failed(folder: StudyFolder, spec: SearchSpec, info: Mapping[str, Any]) -> list[str]:
    """Makes the trials that failed of what may pass unfinished again, as a kill would have left them.

    Those that ran again under another number already stay as they are.

    Args:
        folder: the study, whose lock the caller holds.
        spec: what it searches.
        info: study.json.

    Returns:
        Their ids.
    """
    from mmtune.search.journal import take_back_ends

    ledger, replaced = open_ledger(folder, spec, info), info.get("retried", ())
    found = [trial for trial in ledger.trials.values() if may_pass(trial) and trial.trial not in replaced]
    # Optuna first: a kill between the two leaves trials that the ledger has as FAILED, which the next session settles.
    take_back_ends(folder.optuna_log, [trial_number(trial.trial) for trial in found])
    for trial in found:
        ledger.reopen(trial.trial)
    ledger.close()
    return [trial.trial for trial in found]

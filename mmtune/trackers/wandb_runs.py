"""Trials as offline runs of Weights & Biases, in the study's folder ``wandb``, which ``wandb sync`` uploads.

An offline run cannot be gone on with, so one is written whole when its trial is over, and anew where something is
different later (its model at the study's end, or more epochs of a study that went on). ``wandb/sent.json`` says
what each run holds; it is written after the run, so that what a kill left half is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

from mmtune.records import COMPLETE, PAUSED, PRUNED, StudyFolder, write_json
from mmtune.trackers.follow import TrialNews, study_key

_FINE = (COMPLETE, PRUNED, PAUSED)  # the runs of others have failed


def open_tracker(folder: StudyFolder) -> WandbRuns:
    """The runs of a study.

    Raises:
        ValueError: wandb is not installed.
    """
    os.environ["WANDB_SILENT"] = "true"
    try:
        import wandb
    except ImportError:
        raise ValueError("wandb is not installed: pip install 'mmtune[wandb]'") from None
    return WandbRuns(wandb, folder)


class WandbRuns:
    """Offline runs of one project, which has the study's name.

    Args:
        client: the package ``wandb``.
        folder: of the study.
    """

    def __init__(self, client: Any, folder: StudyFolder) -> None:
        self._client, self._folder = client, folder
        self._key = hashlib.sha256(study_key(folder).encode()).hexdigest()[:8]
        self._runs, self._sent_path = folder.root / "wandb", folder.root / "wandb" / "sent.json"
        self._sent: dict[str, list[Any]] = {}  # trial -> what its run holds
        if self._sent_path.is_file():
            try:
                self._sent = dict(json.loads(self._sent_path.read_text()))
            except (ValueError, TypeError):
                self._sent = {}  # all are written again

    def send(self, news: TrialNews) -> bool:
        """Writes the run of a trial that is over, or at the study's end; whether it was not there yet."""
        holds = [news.state, len(news.epochs), len(news.model)]
        if not (news.is_over or news.model) or self._sent.get(news.trial) == holds:
            return False
        id = f"{self._key}-{news.trial}"
        for old in self._runs.glob(f"*-{id}"):
            shutil.rmtree(old)
        self._runs.mkdir(exist_ok=True)
        settings = self._client.Settings(
            console="off", disable_git=True, disable_job_creation=True, x_disable_stats=True, x_disable_meta=True,
            x_disable_machine_info=True, silent=True,
        )  # fmt: skip
        name, config = self._folder.name, {key: _value(text) for key, text in news.params.items()}
        run = self._client.init(
            mode="offline", dir=str(self._folder.root), project=name, group=name, id=id, name=news.trial,
            config=config, tags=[news.state], notes=news.error or None, settings=settings,
        )  # fmt: skip
        for epoch in news.epochs:
            run.log(epoch.values | {"epoch": epoch.epoch, "time": epoch.time}, step=epoch.epoch)
        run.summary.update(news.totals | {"state": news.state})
        if news.model:
            artifact = self._client.Artifact(f"{id}-model", type="model")
            for file in news.model:
                artifact.add_file(str(file), name=file.name, policy="immutable")  # not copied
            run.log_artifact(artifact)
        run.finish(exit_code=0 if news.state in _FINE else 1)
        self._sent[news.trial] = holds
        write_json(self._sent_path, self._sent)
        return True


def _value(text: str) -> Any:
    """A number where it is one: charts over parameters need them."""
    try:
        return json.loads(text)
    except ValueError:
        return text

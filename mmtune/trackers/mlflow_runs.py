"""Trials as MLflow runs, by the tracking server's API: an experiment a study, a run a trial.

A run's tags say which trial of which study it is and how many of its epochs are there, in the same request as these
epochs; so runs are never written twice, whoever sends them.
"""

from __future__ import annotations

import os
from typing import Any

from mmtune.records import COMPLETE, PAUSED, PRUNED, StudyFolder
from mmtune.trackers.follow import TrialNews, study_key

URI = "MLFLOW_TRACKING_URI"
STUDY, TRIAL, EPOCHS, STATE, MODEL = (f"mmtune.{name}" for name in ("study", "trial", "epochs", "state", "model"))
_AT_ONCE = 900  # metrics of a request; a server takes 1,000
_LONGEST = 5000  # characters of a tag or a parameter
_STATUS = {COMPLETE: "FINISHED", PRUNED: "FINISHED", PAUSED: "SCHEDULED"}


def open_tracker(folder: StudyFolder) -> MlflowRuns:
    """The runs of a study.

    Raises:
        ValueError: MLflow is not installed, or no server is named.
    """
    if not os.environ.get(URI):
        raise ValueError(f"${URI} is not set: it names the server, such as http://127.0.0.1:5000")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise ValueError("mlflow is not installed: pip install 'mmtune[mlflow]'") from None
    return MlflowRuns(MlflowClient(), name=folder.name, study=study_key(folder))


class MlflowRuns:
    """Runs of one experiment.

    Args:
        client: an ``mlflow.tracking.MlflowClient``.
        name: of the experiment, which may have runs of other studies.
        study: tells this study's runs from others.
    """

    def __init__(self, client: Any, *, name: str, study: str) -> None:
        self._client, self._study = client, study
        experiment = client.get_experiment_by_name(name)
        self._experiment = client.create_experiment(name) if experiment is None else experiment.experiment_id
        self._runs: dict[str, tuple[str, dict[str, str]]] = {}  # trial -> run, its tags
        token = None
        while True:
            page = client.search_runs([self._experiment], f"tags.`{STUDY}` = '{study}'", page_token=token)
            for run in page:
                self._runs[run.data.tags[TRIAL]] = run.info.run_id, dict(run.data.tags)
            token = page.token
            if not token:
                break

    def send(self, news: TrialNews) -> bool:
        """Writes what is new of a trial."""
        run, tags = self._runs.get(news.trial) or self._begin(news)
        epochs = [epoch for epoch in news.epochs if epoch.epoch > int(tags.get(EPOCHS, 0))]
        has_news = bool(epochs)
        for epoch in epochs:
            self._write(run, tags, {EPOCHS: str(epoch.epoch)}, epoch.values, step=epoch.epoch, time=epoch.time)
        if tags.get(STATE) != news.state:
            has_news = True
            said = {"mmtune.error": news.error[:_LONGEST]} if news.error else {}
            time = news.ended or (news.epochs[-1].time if news.epochs else 0.0)
            step = news.epochs[-1].epoch if news.epochs else 0
            if news.is_over:
                status, end = _STATUS.get(news.state, "FAILED"), None if news.ended is None else _ms(news.ended)
                self._client.set_terminated(run, status, end)
            else:
                self._client.update_run(run, _STATUS.get(news.state, "RUNNING"))
            self._write(run, tags, said | {STATE: news.state}, news.totals, step=step, time=time)
        if news.model and tags.get(MODEL) != "sent":
            has_news = True
            for file in news.model:
                self._client.log_artifact(run, str(file), "model")
            self._write(run, tags, {MODEL: "sent"}, {}, step=0, time=0.0)
        return has_news

    def _begin(self, news: TrialNews) -> tuple[str, dict[str, str]]:
        from mlflow.entities import Param

        tags = {STUDY: self._study, TRIAL: news.trial}
        start = None if news.started is None else _ms(news.started)
        run = self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=news.trial).info.run_id
        self._runs[news.trial] = run, tags
        self._client.log_batch(run, params=[Param(name, value[:_LONGEST]) for name, value in news.params.items()])
        return run, tags

    def _write(
        self, run: str, tags: dict[str, str], new: dict[str, str], values: dict[str, float], *, step: int, time: float
    ) -> None:
        """Numbers and tags together; the tags with the last of several requests."""
        from mlflow.entities import Metric, RunTag

        metrics = [Metric(name, value, _ms(time), step) for name, value in values.items()]
        while len(metrics) > _AT_ONCE:
            self._client.log_batch(run, metrics=metrics[:_AT_ONCE])
            metrics = metrics[_AT_ONCE:]
        self._client.log_batch(run, metrics=metrics, tags=[RunTag(name, value) for name, value in new.items()])
        tags |= new


def _ms(seconds: float) -> int:
    return round(1000 * seconds)

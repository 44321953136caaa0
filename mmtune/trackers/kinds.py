"""The trackers there are: name -> what they need. Nothing is imported here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackerKind:
    """One tracker.

    Attributes:
        about: in a line.
        extra: of mmtune, that installs it.
        module: exports ``open_tracker(study)``, a :class:`mmtune.trackers.follow.Tracker`.
    """

    about: str
    extra: str
    module: str


TRACKERS: dict[str, TrackerKind] = {
    "mlflow": TrackerKind("an MLflow server, that of $MLFLOW_TRACKING_URI", "mlflow", "mmtune.trackers.mlflow_runs"),
    "wandb": TrackerKind(
        "offline runs of Weights & Biases in STUDY/wandb, for `wandb sync`",
        "wandb",
        "mmtune.trackers.wandb_runs",
    ),  # fmt: skip
}

"""Whether a model's probabilities mean what they say: its reliability diagram and calibration error."""

from __future__ import annotations

from analysis.calibration import calibration_error, confidences, reliability, reliability_figure
from analysis.inspect.subject import NotApplicable, Subject

PACKAGES = ()


def inspect(subject: Subject) -> list[str]:
    """Writes calibration.csv and its picture.

    Raises:
        NotApplicable: a regression has no probabilities.
    """
    task = subject.trained.task
    if task.kind == "regression":
        raise NotApplicable("the model predicts a number, which has no probability")
    bins = reliability(*confidences(subject.labels, subject.scores, task))
    subject.write_table("calibration", bins)
    subject.write_figure("calibration", reliability_figure(bins))
    return [f"expected calibration error {calibration_error(bins):.4f} over {len(bins)} bins"]

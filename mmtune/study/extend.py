"""What of a study may change after its first session: how long it goes on and where, not what its trials mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.sections import Budget
from trainables.files import write_atomic

CHANGEABLE = (
    *(f"budget.{name}" for name in Budget.model_fields), "resources.concurrent_trials", "resources.isolation",
    "resources.max_trial_retries", "resources.max_equal_failures", "resources.frozen_seconds",
    "resources.checkpoint_every_seconds", "keep",
)  # fmt: skip


def extended(folder: StudyFolder, before: SearchSpec, overrides: Sequence[str]) -> SearchSpec:
    """The spec ``before`` of a study with ``key=value`` applied; nothing is written.

    Raises:
        ValueError: an override that would change what the trials so far mean.
        SpecError: one that is not valid.
    """
    for override in overrides:
        section = override.partition("=")[0].strip().partition(".")[0]
        if section not in ("budget", "resources", "keep"):
            raise ValueError(
                f"--set {override}: the study's trials would not be those of one search any more. "
                f"A resumed study may change {', '.join(CHANGEABLE)}"
            )
    spec = load_spec(folder.spec, overrides=overrides)
    changed = _fixed_resources(spec).items() - _fixed_resources(before).items()
    if changed:
        names = ", ".join(f"resources.{name}" for name, _ in sorted(changed))
        raise ValueError(f"--set: {names} would change; a resumed study may change {', '.join(CHANGEABLE)}")
    return spec


def write_extended(folder: StudyFolder, spec: SearchSpec, info: dict[str, Any]) -> None:
    """Makes ``spec`` the study's from now on."""
    info["budget"] = vars(spec.budget)
    write_atomic(folder.spec, spec.to_yaml())
    records.write_json(folder.info, info)


def _fixed_resources(spec: SearchSpec) -> dict[str, Any]:
    return {name: value for name, value in dict(spec.resources).items() if f"resources.{name}" not in CHANGEABLE}

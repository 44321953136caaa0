"""The Ray Tune trainable: hands a trial's config to a slot, passes reports up and stops down.

It runs in a small actor that Tune reuses from trial to trial and imports neither torch nor transformers.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from mmtune.slots.messages import TrialJob


def run_trial(config: dict[str, Any]) -> None:
    """One trial.

    Args:
        config: 'broker' (name of the Broker actor), 'ticket' (the broker's name for the job), 'objective' and 'job'
            (what the slot's workers get: 'config', 'folder', 'known_epoch').
    """
    try:
        _follow(ray.get_actor(config["broker"]), config["ticket"], config["job"], config["objective"])
    except (RayActorError, ValueError):  # the broker is gone, which is not the trial's fault:
        time.sleep(60)  # the driver ends this session meanwhile, and hands the trial out again in the next
        raise


def _follow(broker: ActorHandle, ticket: str, job: TrialJob, objective: str) -> None:
    ray.get(broker.submit.remote(ticket, job))
    is_over = False
    try:
        while True:
            kind, payload = ray.get(broker.next_event.remote(ticket))
            if kind == "report":
                tune.report({"epoch": payload["epoch"], "value": payload[objective], "row": payload})
                ray.get(broker.answer.remote(ticket, stop=False))
            elif kind == "end":
                is_over = True
                ray.get(broker.answer.remote(ticket, stop=False))
                tune.report({"end": payload})
                return
    finally:  # ASHA stops a trial by raising SystemExit in tune.report
        if not is_over:
            ray.get(broker.answer.remote(ticket, stop=True))

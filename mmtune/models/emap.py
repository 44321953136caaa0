"""Does a model use how its modalities go together, or does it add them up: EMAP (Hessel and Lee 2020).

The empirical multimodally-additive projection of a model f over samples (t_i, v_i) is the best sum of a function of t
and one of v: f'(t_i, v_i) = mean_j f(t_i, v_j) + mean_j f(t_j, v_i) - mean_jk f(t_j, v_k), in logits. A model that
loses nothing by it is an ensemble of unimodal models, however it is built. N samples take N^2 forwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmtune.models.reference import ModelRef

if TYPE_CHECKING:
    from analysis.paired import Difference
    from trainables.batch import Batch

SAMPLES = 200


def interaction(ref: ModelRef, *, modality: str, split: str, metric: str, samples: int = SAMPLES) -> Difference:
    """How much of a metric a model loses by its projection to a sum of ``modality`` and the rest.

    Args:
        ref: the model, which reads ``modality`` and others.
        modality: what is taken apart from the rest.
        split: of its own data.
        metric: by its name without prefix.
        samples: N, evenly picked from the split; all of it if it has fewer.

    Raises:
        ValueError: the data of its training is not there, or 'metadata', which is no modality.
    """
    import torch

    from analysis.paired import Outputs, paired_difference
    from trainables.answers import labelled
    from trainables.trained import load_trained

    if modality == "metadata":
        raise ValueError(
            "--emap: metadata are no modality that can be taken apart; use --modality numeric or categorical"
        )
    trained = load_trained(ref.folder)
    given = labelled(trained, split=split)
    if given.data is None:
        raise ValueError(f"{ref.name}: the data that it was trained on has changed")
    rows = given.rows[np.unique(np.linspace(0, len(given.rows) - 1, min(samples, len(given.rows))).astype(int))]
    with torch.inference_mode():
        batch = trained.with_features(given.data.batch(rows, given.data.clean).to(trained.device))
        logits_NNC = np.stack(
            [trained.forward(_mixed(batch, at, modality)).logits.double().cpu().numpy() for at in range(len(rows))]
        )
    scale = trained.label_scale
    if scale is not None:
        logits_NNC = scale.restored(logits_NNC)
    whole, projected = np.einsum("iic->ic", logits_NNC), projection(logits_NNC)
    labels = given.labels[rows]
    return paired_difference(Outputs(labels, whole), Outputs(labels, projected), metric=metric, task=trained.task)


def projection(logits_NNC: np.ndarray) -> np.ndarray:
    """EMAP (N, C) from the logits of every pair (N, N, C): a modality of the first sample, the rest of the second."""
    return logits_NNC.mean(axis=1) + logits_NNC.mean(axis=0) - logits_NNC.mean(axis=(0, 1))


def _mixed(batch: Batch, at: int, modality: str) -> Batch:
    """The samples of a batch, each with the modality of sample ``at``."""
    from trainables.batch import modality_fields

    values = {name: getattr(batch, name) for name in modality_fields(modality)}
    size = batch.size
    return replace(
        batch,
        **{
            name: None if value is None else value[at : at + 1].expand(size, *value.shape[1:])
            for name, value in values.items()
        },
    )

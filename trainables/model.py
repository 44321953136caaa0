"""A configuration's model: the family's module on ports that fit the data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainables.checkpoint import model_tensors
from trainables.config import TrialConfig
from trainables.data.data import Data
from trainables.data.reading.dataset import DatasetRef, load_table, load_target
from trainables.data.reading.tabular import Tabular, load_tabular
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port, load_encoder
from trainables.encoders.tabular import CategoricalEncoder, GraphEncoder, NumericEncoder
from trainables.encoders.weights import load_config
from trainables.families import family_inputs, family_module
from trainables.layers.clean_statistics import moving_norms, splits_statistics
from trainables.metrics import METRICS
from trainables.parts import runs_in_parts, set_batch_norms
from trainables.task import Task

STATISTICS_ROWS = 4096  # training rows that standardised features are measured on, at most
_CHUNK = 64


def build_model(config: TrialConfig, data: Data) -> nn.Module:
    """The family's model on ports that fit the data: encoders, or their cached features.

    Raises:
        ValueError: an encoder that cannot be loaded, columns that the dataset does not have, or a setting that
            the model cannot follow.
    """
    ports = {}
    for modality, input in there(family_inputs(config), data.tabular, dataset=data.dataset).items():
        cached = getattr(data.clean, f"{modality}_features", None)
        width = None if cached is None else cached.width
        port = load_port(modality, input, tabular=data.tabular, dataset=data.dataset, cached_width=width)
        if input.is_standardised:
            mean_D, std_D = _statistics(port, data)
            port.mean_D.copy_(mean_D)
            port.std_D.copy_(std_D)
        ports[modality] = port
    return family_model(config, data.task, ports)


class ModelSize(NamedTuple):
    """How large a model is, locked encoders included."""

    num_parameters: int
    num_trainable: int
    best_bytes: int
    """Of ``best.safetensors``: all but what is locked."""

    @property
    def state_bytes(self) -> int:
        """Of what training keeps in memory whatever the batch: fp32 weights, gradients and Adam's two moments."""
        return 4 * self.num_parameters + 12 * self.num_trainable

    @property
    def last_bytes(self) -> int:
        """Of ``last.safetensors``: Adam's two moments besides."""
        return self.best_bytes + 8 * self.num_trainable


def model_size(config: TrialConfig, *, workers: int = 1) -> ModelSize:
    """How large the model of a config is; built on the meta device: no weights are read and no cache is filled.

    Raises:
        ValueError: as :func:`build_model`, a modality that the dataset does not have, or micro-batches that would
            cut what a BatchNorm has to see whole, where ``workers`` share a batch.
    """
    dataset, inputs = DatasetRef.of(config), family_inputs(config)
    table, tabular = load_table(dataset), load_tabular(dataset, config.graph)
    task = load_target(dataset, config.target).task
    for modality, rows in (("text", table.texts), ("image", table.images)):
        if modality in inputs and rows is None and not inputs[modality].is_regions:
            raise ValueError(f"dataset {config.dataset} has no {modality}, which family {config.family} reads here")
    with torch.device("meta"):
        ports = {
            modality: load_port(modality, input, tabular=tabular, dataset=config.dataset)
            for modality, input in there(inputs, tabular, dataset=config.dataset).items()
        }
        model = family_model(config, task, ports)
    runs_in_parts(model, config, num_rows=-(-config.batch_size // workers))
    parameters, saved = list(model.parameters()), model_tensors(model).values()
    return ModelSize(
        num_parameters=sum(part.numel() for part in parameters),
        num_trainable=sum(part.numel() for part in parameters if part.requires_grad),
        best_bytes=sum(tensor.numel() * tensor.element_size() for tensor in saved),
    )


def there(inputs: Mapping[str, Input], tabular: Tabular, *, dataset: str) -> dict[str, Input]:
    """The inputs without the optional ones that a dataset does not have.

    Raises:
        ValueError: it has none of those.
    """
    has = {"numeric": tabular.numeric is not None, "categorical": tabular.codes is not None}
    optional = [name for name, input in inputs.items() if input.is_optional]
    if optional and not any(has[name] for name in optional):
        raise ValueError(f"model.metadata: dataset {dataset} has no numbers and no categories")
    return {name: input for name, input in inputs.items() if name not in optional or has[name]}


def load_port(modality: str, input: Input, *, tabular: Tabular, dataset: str, cached_width: int | None = None) -> Port:
    """One port with its encoder inside, or without if batches carry ``cached_width`` features.

    Raises:
        ValueError: an encoder that cannot be loaded, or columns that the dataset does not have.
    """
    encoder: nn.Module | None = None
    if modality in ("numeric", "categorical", "graph"):
        encoder = load_tabular_encoder(modality, tabular, dataset=dataset)
        width = encoder.width
    elif cached_width is not None:
        width = cached_width
    elif input.has_encoder:
        encoder = load_encoder(modality, input)
        width = encoder.width
    elif input.is_regions:
        width = input.width
    elif modality == "text":
        config = load_config(input.encoder)
        width = getattr(config, "text_config", config).hidden_size
    else:
        width = 0  # pixels
    return Port(modality=modality, input=input, width=width, encoder=encoder)


def load_tabular_encoder(
    modality: str, tabular: Tabular, *, dataset: str
) -> NumericEncoder | CategoricalEncoder | GraphEncoder:
    """The encoder of 'numeric', 'categorical' or 'graph' for a dataset's columns.

    Raises:
        ValueError: the dataset has no such columns.
    """
    if modality == "numeric" and tabular.numeric is not None:
        assert tabular.mean is not None and tabular.std is not None and tabular.has_missing is not None
        return NumericEncoder(tabular.mean, tabular.std, tabular.has_missing)
    if modality == "categorical" and tabular.codes is not None:
        return CategoricalEncoder(tabular.sizes)
    if modality == "graph" and tabular.graph is not None:
        return GraphEncoder(tabular.graph.num_nodes)
    what = {"numeric": "numeric columns", "categorical": "categorical columns", "graph": "graph"}[modality]
    raise ValueError(f"model.modalities: '{modality}' was asked for, but dataset {dataset} has no {what}")


def family_model(config: TrialConfig, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The family's model on these ports, as ``config`` sets it.

    Raises:
        ValueError: a setting that the model cannot follow.
    """
    model = family_module(config.family).build(config.model, task, ports)
    set_batch_norms(model, config)
    if splits_statistics(config.uda) and not moving_norms(model):
        raise ValueError("uda.bn_eval_for_aug: this model has no BatchNorm whose statistics train")
    metric = METRICS.get(config.objective.removeprefix("val_"))
    if metric is not None and metric.is_of_model and not hasattr(model, "matching_recalls"):
        raise ValueError(f"objective '{config.objective}': this '{config.family}' does not compare images with texts")
    if config.gradient_checkpointing and not checkpoint_layers(model):
        raise ValueError(f"gradient_checkpointing: nothing that trains in this '{config.family}' supports it")
    return model


@torch.no_grad()
def _statistics(port: Port, data: Data) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature (D,) over the training rows, those without a label too where they take part;
    evenly picked where there are many."""
    rows = np.sort(np.concatenate([data.rows["train"], data.unlabelled]))
    if len(rows) > STATISTICS_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, STATISTICS_ROWS).astype(int)]
    was_training = port.training
    port.eval()
    values_ND = torch.empty(len(rows), port.width, dtype=torch.float64)
    for at in range(0, len(rows), _CHUNK):
        values_ND[at : at + _CHUNK] = port(data.batch(rows[at : at + _CHUNK], data.clean))
    port.train(was_training)
    std_D = values_ND.std(dim=0, correction=0)
    return values_ND.mean(dim=0).float(), torch.where(std_D > 1e-6, std_D, 1.0).float()


def checkpoint_layers(model: nn.Module) -> int:
    """Makes the transformer layers that train keep their inputs alone and compute the rest again in backward.

    Returns:
        How many layers; 0 if the model has none that can.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    count = 0
    for module in model.modules():
        trains = any(parameter.requires_grad for parameter in module.parameters())
        if isinstance(module, GradientCheckpointingLayer) and trains:
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # pyright: ignore
            count += 1
    return count

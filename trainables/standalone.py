"""Makes a trained model's folder stand alone: what of the data its model needs is written beside its weights."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainables.config import TrialConfig
from trainables.data.cache.regions import regions_digest
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.data import Data
from trainables.data.reading.dataset import DatasetRef, field_columns, load_table
from trainables.data.reading.folder import data_folder
from trainables.data.reading.tablefile import load_table_spec
from trainables.data.requirements import requirements
from trainables.encoders.architectures import ARCHITECTURES
from trainables.encoders.inputs import Input
from trainables.encoders.weights import fingerprint
from trainables.families import family_inputs
from trainables.files import write_atomic
from trainables.modelfolder import FACTS, TOKENIZER, Columns, EncoderUsed, ModelFacts, NumberScale, write_facts

_PACKAGES = ("mmtune", "torch", "torchvision", "transformers", "tokenizers", "safetensors")


def write_standalone(folder: Path, config: TrialConfig, data: Data) -> None:
    """Writes ``model.json``, and ``tokenizer.json`` where the vocabulary is made of the training texts; once."""
    if (folder / FACTS).exists():
        return
    text = family_inputs(config).get("text")
    if text is not None and text.encoder in ARCHITECTURES:
        tokenizer = dataset_tokenizer(DatasetRef.of(config), text.encoder)
        write_atomic(folder / TOKENIZER, tokenizer.backend_tokenizer.to_str())
    write_facts(folder, facts_of(config, data))


def facts_of(config: TrialConfig, data: Data) -> ModelFacts:
    """What a model of ``config`` needs to know of ``data``."""
    tabular, dataset = data.tabular, DatasetRef.of(config)
    scales = (tabular.numeric_names, tabular.mean, tabular.std, tabular.has_missing)
    rows = () if tabular.numeric is None else zip(*scales, strict=True)  # pyright: ignore[reportArgumentType]
    return ModelFacts(
        task=data.task,
        target=config.target or next(iter(load_table(dataset).targets)),
        dataset=config.dataset,
        fingerprint=data.fingerprint,
        rows={split: len(rows) for split, rows in data.rows.items()},
        label_scale=None if data.scale is None else (data.scale.mean, data.scale.std),
        numeric=tuple(NumberScale(name, float(mean), float(std), bool(gaps)) for name, mean, std, gaps in rows),
        categorical=dict(tabular.values),
        graph=None if tabular.graph is None else config.graph or next(iter(load_table(dataset).graphs)),
        num_nodes=None if tabular.graph is None else tabular.graph.num_nodes,
        encoders=_encoders(config),
        columns=_columns(config),
        versions={name: found for name in _PACKAGES if (found := _version(name)) is not None},
    )


def _encoders(config: TrialConfig) -> dict[str, EncoderUsed]:
    cached = {need.modality for need in requirements(config) if need.view is None and need.uses_features}
    return {
        modality: EncoderUsed(
            input.encoder, _fingerprint(input), input.is_locked, modality in cached, is_regions=input.is_regions
        )
        for modality, input in family_inputs(config).items()
        if input.encoder
    }


def _fingerprint(input: Input) -> str:
    return regions_digest(input.encoder) if input.is_regions else fingerprint(input.encoder)


def _columns(config: TrialConfig) -> Columns:
    """Of those of the dataset the columns that the family reads."""
    reads, dataset = family_inputs(config), DatasetRef.of(config)
    text_numbers, text_categories = field_columns(dataset)
    if config.dataset == "table":
        spec = load_table_spec(data_folder(config.dataset, config.data_dir) / "table.yaml")
        label = spec.labels[config.target or next(iter(spec.labels))]
        return Columns(
            text=spec.text if "text" in reads else (),
            image=spec.image if "image" in reads else None,
            id=spec.id,
            label=label.column,
            label_separator=label.separator,
            numeric=spec.numeric if "numeric" in reads else (),
            categorical=spec.categorical if "categorical" in reads else (),
            text_numbers=text_numbers,
            text_categories=text_categories,
            na_values=tuple(sorted(spec.cells.na_values)),
            is_normalised=spec.cells.normalise,
        )
    table = load_table(dataset)
    return Columns(
        text=("text",) if "text" in reads else (),
        image="image" if "image" in reads and table.images is not None else None,
        id="id",
        label="label",
        numeric=table.numeric_names if "numeric" in reads else (),
        categorical=tuple(table.categorical) if "categorical" in reads else (),
        text_numbers=text_numbers,
        text_categories=text_categories,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

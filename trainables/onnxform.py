"""A trained model as one ONNX graph: raw inputs in, logits and scores out, its encoders inside.

In float32 throughout: of a model that was trained in half precision, or on cached features, answers differ by that
rounding. What it answers is compared with torch before anybody gets the file.
Sizes: B rows, L tokens, S pixels a side, C outputs.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.data.reading.scale import LabelScale
from trainables.task import Task
from trainables.trained import Inputs, Trained, no_labels

OUTPUTS = ("logits", "scores")
TOLERANCE = 1e-4
_FIELDS = {  # modality -> fields of a Batch
    "text": ("input_ids", "attention_mask"),
    "image": ("pixel_values",),
    "numeric": ("numeric",),
    "categorical": ("categories",),
    "graph": ("neighbours",),
}
_LENGTHS = {"input_ids": "tokens", "attention_mask": "tokens", "neighbours": "links"}  # dimension 1 is any
_SIZES = (
    (5, 0.6),
    (1, 1.0),
    (2, 0.0),
    (13, 0.3),
)  # rows, and words as a share of the longest text; traced by the first
_IN_ONE_FILE = 1_900_000_000  # bytes; protobuf ends at 2 GiB
_SILENT = ("onnxscript", "onnx_ir", "torch.export", "torch.onnx")


@dataclass(frozen=True)
class Graph:
    """What was written.

    Attributes:
        inputs: name -> what it is.
        difference: the largest from torch, among all logits and scores of the comparison.
    """

    inputs: dict[str, str]
    difference: float


def write_onnx(trained: Trained, path: Path) -> Graph:
    """Writes the model, on the CPU, and compares what onnxruntime answers with torch.

    Beyond 2 GB the weights lie beside it, in ``<path>.data``.

    Raises:
        ValueError: the model cannot be written, or it answers otherwise.
    """
    import onnxruntime

    assert trained.device.type == "cpu"
    if trained.regions is not None:
        raise ValueError("--format onnx: the model reads regions of an object detector, which a graph cannot look up")
    graph = _Graph(trained).eval()
    batches = [_tensors(trained, rows, share, seed=at) for at, (rows, share) in enumerate(_SIZES)]
    _write(graph, batches[0], path, family=trained.config.family)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    difference = max(_difference(session, graph, batch, family=trained.config.family) for batch in batches)
    return Graph(_described(trained), difference)


class _Graph(nn.Module):
    """Tensors by position in, as ONNX has them."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.model, self.task, self.scale = trained.model, trained.task, trained.label_scale
        self.names = _names(trained)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C), and scores: probabilities (B, C), of a regression (B,) numbers in the labels' unit."""
        size = tensors[0].shape[0]
        batch = Batch(**dict(zip(self.names, tensors, strict=True)), labels=no_labels(self.task, size), ids=[])
        logits_BC = self.model(batch).logits.float()
        return logits_BC, _scores(logits_BC, self.task, self.scale)


def _scores(logits_BC: Tensor, task: Task, scale: LabelScale | None) -> Tensor:
    if scale is not None:
        return logits_BC[:, 0] * scale.std + scale.mean
    return logits_BC.softmax(dim=1) if task.kind == "multiclass" else logits_BC.sigmoid()


def _names(trained: Trained) -> tuple[str, ...]:
    return tuple(name for modality, names in _FIELDS.items() if modality in trained.modalities for name in names)


def _described(trained: Trained) -> dict[str, str]:
    config, facts = trained.config, trained.facts
    names = [scale.name for scale in facts.numeric]
    about = {
        "input_ids": f"int64 (rows, tokens), at most {config.max_text_len} tokens, padded on the right with 0",
        "attention_mask": "int64 (rows, tokens), 1 on tokens and 0 on padding",
        "pixel_values": f"uint8 (rows, 3, {config.image_size}, {config.image_size}), RGB, fit: {config.image_fit}",
        "numeric": f"float64 (rows, {len(facts.numeric)}), NaN where missing: {', '.join(names)}",
        "categories": f"int64 (rows, {len(facts.categorical)}), 0 where missing or unknown, else the value's place in "
        f"model.json, from 1: {', '.join(facts.categorical)}",
        "neighbours": "int64 (rows, links), nodes of the graph from 1, padded on the right with 0",
    }
    return {name: about[name] for name in _names(trained)}


def _tensors(trained: Trained, size: int, share: float, *, seed: int) -> dict[str, Tensor]:
    """Made-up rows; texts of up to ``share`` of the longest."""
    batch = trained.batch(_made_up(trained, size, share, np.random.default_rng(seed)))
    return {name: getattr(batch, name) for name in _names(trained)}


def _made_up(trained: Trained, size: int, share: float, random: np.random.Generator) -> Inputs:
    facts, config, reads, texts = trained.facts, trained.config, trained.modalities, None
    if "text" in reads:
        words = [word for word in trained.tokenizer.get_vocab() if word.isalpha()] or ["a"]
        most = round(share * config.max_text_len)
        texts = [" ".join(random.choice(sorted(words), random.integers(0, most + 1))) for _ in range(size)]
    numeric = np.array([[scale.mean + scale.std * random.normal() for scale in facts.numeric] for _ in range(size)])
    if numeric.size:
        numeric[random.random(numeric.shape) < 0.2] = np.nan
    shape = (size, 3, config.image_size, config.image_size)
    nodes = [random.integers(0, facts.num_nodes or 1, random.integers(1, 6)) for _ in range(size)]
    return Inputs(
        ids=[str(row) for row in range(size)],
        texts=texts,
        pixels=random.integers(0, 256, shape, dtype=np.uint8) if "image" in reads else None,
        numeric=numeric if facts.numeric else None,
        categorical={
            name: [None if random.random() < 0.2 else str(random.choice(known)) for _ in range(size)]
            for name, known in facts.categorical.items()
        },
        neighbours=nodes if "graph" in reads else None,
    )


def _write(graph: _Graph, batch: dict[str, Tensor], path: Path, *, family: str) -> None:
    shapes = {
        name: {0: torch.export.Dim.DYNAMIC, **({1: torch.export.Dim.DYNAMIC} if name in _LENGTHS else {})}
        for name in batch
    }
    weights = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    try:
        with _silence(), torch.no_grad():
            torch.onnx.export(
                graph,
                tuple(batch.values()),
                str(path),
                input_names=list(batch),
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple(shapes.values()),),
                dynamo=True,
                verbose=False,
                external_data=weights > _IN_ONE_FILE,
            )
    except Exception as error:  # whatever an operation that ONNX lacks raises, a class of its own each
        raise ValueError(f"this '{family}' cannot be written as ONNX: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """What was first: torch wraps it in advice of many lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _difference(session: Any, graph: _Graph, batch: dict[str, Tensor], *, family: str) -> float:
    """The largest, relative where values are beyond 1.

    Raises:
        ValueError: beyond ``TOLERANCE``.
    """
    with torch.no_grad():
        wanted = [value.numpy() for value in graph(*batch.values())]
    found = session.run(list(OUTPUTS), {name: value.numpy() for name, value in batch.items()})
    pairs = zip(found, wanted, strict=True)
    worst = max(float(np.max(np.abs(got - want) / np.maximum(1, np.abs(want)))) for got, want in pairs)
    if not worst <= TOLERANCE:
        raise ValueError(f"this '{family}' answers otherwise as ONNX (by {worst:.1e}); nothing was exported")
    return worst


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the hundreds of lines that conversion logs and prints."""
    loggers = [logging.getLogger(name) for name in _SILENT]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Recorded trainings: tables of learning curves over a unit cube, for searches that are replayed on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LCBENCH_EPOCHS = 52


@dataclass(frozen=True)
class Table:
    """Learning curves over the unit cube."""

    name: str
    kind: str
    num_params: int
    epochs: int
    curve: Callable[[np.ndarray], np.ndarray]  # point -> losses by epoch; nan where it diverged
    best: float
    usual: float  # the best loss of the median configuration


def recorded_tables(folder: Path) -> Iterator[Table]:
    """Every .npz in ``folder``."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            points, losses = file["U"], file["Y"]
        bests = np.where(np.isfinite(losses), losses, np.inf).min(axis=1)

        def curve(point: np.ndarray, points: np.ndarray = points, losses: np.ndarray = losses) -> np.ndarray:
            return losses[int(((points - point) ** 2).sum(axis=1).argmin())]

        usual = float(np.median(bests[np.isfinite(bests)]))
        yield Table(path.stem, "taskset", points.shape[1], losses.shape[1], curve, float(bests.min()), usual)


def lcbench_tables(folder: Path, num_datasets: int) -> Iterator[Table]:
    """The surrogate's first datasets, if it can be run."""
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("lcbench left out: onnxruntime is not installed")
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    space = {item["name"]: item for item in json.loads((folder / "config_space.json").read_text())["hyperparameters"]}
    names = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")

    def curve_of(code: int) -> Callable[[np.ndarray], np.ndarray]:
        def curve(point: np.ndarray) -> np.ndarray:
            inputs = np.zeros((_LCBENCH_EPOCHS, 1 + len(names)), np.float32)
            inputs[:, 0] = np.arange(1, _LCBENCH_EPOCHS + 1)
            for column, (name, at) in enumerate(zip(names, point, strict=True), start=1):
                low, high = space[name]["lower"], space[name]["upper"]
                is_log = bool(space[name].get("log"))
                value = low * (high / low) ** at if is_log else low + at * (high - low)
                inputs[:, column] = round(value) if space[name]["type"] == "uniform_int" else value
            given = {"x_cat": np.full((_LCBENCH_EPOCHS, 1), code, np.int32), "x_cont": inputs}
            return 1 - np.asarray(model.run(None, given)[0])[:, 1].astype(float) / 100

        return curve

    for task in ("3945", "126026", "167168", "168331", "189866", "189906")[:num_datasets]:
        curve, rng = curve_of(codes[task]), np.random.default_rng(12345)
        bests = [curve(rng.random(len(names))).min() for _ in range(2000)]
        yield Table(task, "lcbench", len(names), _LCBENCH_EPOCHS, curve, min(bests), float(np.median(bests)))

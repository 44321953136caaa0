"""Recorded trainings: tables of learning curves over a unit cube, for searches that are replayed on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LCBENCH_EPOCHS = 52
_CHOSEN_ON = 3  # of LCBench's datasets; schedule and sampler were never tried on the others
_MIXED_EPOCHS = 12
_PRICES = (1.0, 3.0, 9.0, 27.0)  # of an epoch, by family
_HANDICAPS = (0.0, 0.2, 0.4, 0.6)  # of a family's best, where its median configuration is 1 further


@dataclass(frozen=True)
class Table:
    """Learning curves over the unit cube."""

    name: str
    kind: str
    num_params: int
    epochs: int
    # For one search: a function from a point to its losses by epoch, nan where it diverged. Where configurations were
    # recorded a point takes the nearest one that the search has not taken yet, as no two trainings are the same.
    begin: Callable[[], Callable[[np.ndarray], np.ndarray]]
    best: float
    usual: float  # the best loss of the median configuration
    # Of an epoch, by family; where there are several a point's first value says which.
    prices: tuple[float, ...] = (1.0,)

    def price(self, point: np.ndarray) -> float:
        """Of an epoch at a point, as a multiple of the mean over the families."""
        return self.prices[family_at(point, len(self.prices))] * len(self.prices) / sum(self.prices)


def recorded_tables(folder: Path) -> Iterator[Table]:
    """Every .npz in ``folder``."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            points, losses = file["U"], file["Y"]
        bests = np.where(np.isfinite(losses), losses, np.inf).min(axis=1)

        def begin(points: np.ndarray = points, losses: np.ndarray = losses) -> Callable[[np.ndarray], np.ndarray]:
            beyond = np.zeros(len(points))

            def curve(point: np.ndarray) -> np.ndarray:
                nearest = int((((points - point) ** 2).sum(axis=1) + beyond).argmin())
                beyond[nearest] = points.shape[1]  # further than any that is free; if none is, the nearest
                return losses[nearest]

            return curve

        usual = float(np.median(bests[np.isfinite(bests)]))
        yield Table(path.stem, "taskset", points.shape[1], losses.shape[1], begin, float(bests.min()), usual)


def family_at(point: np.ndarray, num_families: int) -> int:
    """Which of so many families a point's first value names."""
    return min(int(point[0] * num_families), num_families - 1)


def mixed_tables(tables: Sequence[Table]) -> Iterator[Table]:
    """Each a search over four families: four neighbouring tables, brought to one scale, whose epochs cost 1, 3, 9, 27.

    Which of the four is best goes round with the tables, so that the dearest is as often the best as the cheapest.
    """
    for index in range(len(tables) if len(tables) >= len(_PRICES) else 0):
        parts = [tables[(index + at) % len(tables)] for at in range(len(_PRICES))]
        handicaps = [_HANDICAPS[(index + at) % len(_HANDICAPS)] for at in range(len(_PRICES))]

        def begin(parts: list[Table] = parts, handicaps: list[float] = handicaps) -> Callable[[np.ndarray], np.ndarray]:
            curves = [part.begin() for part in parts]

            def curve(point: np.ndarray) -> np.ndarray:
                family = family_at(point, len(parts))
                part = parts[family]
                losses = (curves[family](point[1:]) - part.best) / (part.usual - part.best) + handicaps[family]
                ends = np.linspace(0, part.epochs, _MIXED_EPOCHS + 1)[1:].round().astype(int) - 1
                return losses[ends]

            return curve

        rng = np.random.default_rng(12345)
        found = [begin()(rng.random(1 + parts[0].num_params)) for _ in range(2000)]
        usual = float(np.median([np.nanmin(losses) for losses in found if np.isfinite(losses).any()]))
        names = "+".join(part.name.split("_")[1] for part in parts)
        yield Table(names, "mixed", 1 + parts[0].num_params, _MIXED_EPOCHS, begin, 0.0, usual, _PRICES)


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

    for index, task in enumerate(("3945", "126026", "167168", "168331", "189866", "189906")[:num_datasets]):
        curve, rng = curve_of(codes[task]), np.random.default_rng(12345)
        bests = [curve(rng.random(len(names))).min() for _ in range(2000)]
        kind = "lcbench" if index < _CHOSEN_ON else "held-out"
        yield Table(
            task, kind, len(names), _LCBENCH_EPOCHS, lambda curve=curve: curve, min(bests), float(np.median(bests))
        )

"""The folder of ``mmtune export --format onnx``: model.onnx, model.json, config.yaml and, of text, its tokenizer."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.exported import write_manifest
from trainables.modelfolder import CONFIG, FACTS

if TYPE_CHECKING:
    from trainables.onnxform import Graph
    from trainables.trained import Trained

MODEL = "model.onnx"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Refuses to begin without what it takes.

    Raises:
        ValueError: packages of ``mmtune[onnx]`` are missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"--format onnx needs {', '.join(missing)}: pip install 'mmtune[onnx]'")


def write_onnx_folder(trained: Trained, folder: Path) -> str:
    """Writes the folder, and compares what it answers with torch.

    Returns:
        How it is used, in Markdown, for its card.

    Raises:
        ValueError: the model cannot be written, or answers otherwise.
    """
    from trainables.onnxform import write_onnx

    graph = write_onnx(trained, folder / MODEL)
    for name in (CONFIG, FACTS):
        if (trained.folder / name).is_file():
            shutil.copyfile(trained.folder / name, folder / name)
    if "text" in trained.modalities:
        trained.tokenizer.save_pretrained(folder)
    write_manifest(folder, encoders={})
    return _use(trained, graph)


def _use(trained: Trained, graph: Graph) -> str:
    size, task = trained.config.image_size, trained.task
    made: dict[str, str] = {
        "input_ids": "ids",
        "attention_mask": "np.ones_like(ids)",
        "pixel_values": "pixels",
        "numeric": f"np.full((1, {len(trained.facts.numeric)}), np.nan)",
        "categories": f"np.zeros((1, {len(trained.facts.categorical)}), np.int64)",
        "neighbours": "np.zeros((1, 1), np.int64)",
    }
    lines = ["import numpy as np", "import onnxruntime"]
    lines += ["from PIL import Image"] if "image" in trained.modalities else []
    lines += ["from tokenizers import Tokenizer"] if "text" in trained.modalities else []
    lines.append("")
    if "text" in trained.modalities:
        lines += [
            'tokenizer = Tokenizer.from_file("DIR/tokenizer.json")',
            f"tokenizer.enable_truncation({trained.config.max_text_len})",
            'ids = np.array([tokenizer.encode("a few words").ids])',
        ]
    if "image" in trained.modalities:
        lines += [
            f'image = Image.open("picture.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BICUBIC)',
            "pixels = np.asarray(image).transpose(2, 0, 1)[None]",
        ]
    given = ", ".join(f'"{name}": {made[name]}' for name in graph.inputs)
    lines += ['session = onnxruntime.InferenceSession("DIR/model.onnx")', f"given = {{{given}}}"]
    lines += ['logits, scores = session.run(["logits", "scores"], given)', "print(scores)"]
    scores = {
        "multiclass": "probabilities (rows, classes), softmax of the logits",
        "multilabel": "probabilities (rows, classes), sigmoid of the logits",
        "regression": f"numbers (rows,) in the unit of `{trained.facts.target}`",
    }
    rows = [
        *graph.inputs.items(),
        ("logits", "float32, what the model gives"),
        ("scores", f"float32 {scores[task.kind]}"),
    ]
    table = "\n".join(
        ["| tensor | what it is |", "| --- | --- |", *(f"| `{name}` | {about} |" for name, about in rows)]
    )
    code = "\n".join(lines)
    return (
        f"`model.onnx` needs onnxruntime alone. With DIR this folder:\n\n```python\n{code}\n```\n\n{table}\n\n"
        "The number of rows and the length of texts are free. It computes in float32: a model that was trained in half "
        "precision, or on features kept in it, differs by that rounding. When it was written its answers differed from "
        f"torch's by {graph.difference:.1e} at most, in batches of 1, 2, 5 and 13 made-up rows."
    )

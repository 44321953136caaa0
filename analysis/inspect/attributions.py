"""Which words a class hangs on: integrated gradients (Sundararajan et al. 2017) by captum, over the word embeddings.

The path goes from the text with every word blanked, its special tokens as they are, to the text. L tokens, D features,
K points of the path at once.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import COLOURS, plain
from analysis.inspect.asking import Asked, ask, blank_token, repeated, unlocked
from analysis.inspect.faithful import faithfulness, told_areas
from analysis.inspect.subject import NotApplicable, Subject, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

PACKAGES = ("captum",)
STEPS = 64  # points of the path, by Gauss and Legendre
_AT_ONCE = 16
_TABLES = ("word_embeddings", "token_embedding")  # as transformers calls them
_DRAWN = 30  # words a sample


@dataclass(frozen=True)
class Attributed:
    """What each token adds to an output.

    Attributes:
        values_L: of each token; 0 of specials and padding.
        logit: of the text.
        blank_logit: of the text without its words; the values add up to the difference of the two.
    """

    values_L: np.ndarray
    logit: float
    blank_logit: float


def inspect(subject: Subject) -> list[str]:
    """Writes attributions.csv (tokens), attribution_rows.csv, attribution_curves.csv and attributions.png.

    Raises:
        NotApplicable: the model reads no text, or none of the rows shown has a word.
    """
    if "text" not in subject.trained.modalities:
        raise NotApplicable(f"the model reads {', '.join(subject.trained.modalities)}, no text")
    tokens, rows, bars, points = [], [], [], []
    for at in subject.shown:
        asked = ask(subject, int(at))
        places, words = asked.words
        if not len(places):
            continue
        found = integrated_gradients(asked)
        values = found.values_L[places]
        given = {"own": values}
        id, own = subject.ids[at], []
        measured = faithfulness(
            lambda there, a=asked, p=places: a.without_tokens(there, p), given, seed=subject.seed, points=own
        )
        points += [{"id": id, **row} for row in own]
        tokens.append(pd.DataFrame({"id": id, "position": places, "token": words, "attribution": values}))
        gap = float(values.sum()) - (found.logit - found.blank_logit)
        rows.append({"id": id, "label": subject.label(int(at)), "explained": asked.name, "score": asked.score,
                     "logit": found.logit, "blank_logit": found.blank_logit, "gap": gap,
                     **measured["own"]})  # fmt: skip
        bars.append((f"{id}: {subject.label(int(at))}; said {asked.name} {asked.score:.2f}", words, values))
    if not rows:
        raise NotApplicable("none of the rows that are shown has a word")
    subject.write_table("attributions", pd.concat(tokens))
    table = pd.DataFrame(rows)
    subject.write_table("attribution_rows", table)
    subject.write_table("attribution_curves", pd.DataFrame(points))
    _draw(subject, bars)
    largest = float(np.abs(table["gap"]).max())
    lines = told_areas(table.assign(method="integrated gradients"), "method")
    return [*lines, f"attributions add up to the change of the logit within {largest:.2g}"]


def integrated_gradients(asked: Asked) -> Attributed:
    """What each token adds to the output that is explained, beside the text without its words."""
    import torch
    from captum.attr import IntegratedGradients

    batch, trained = asked.batch, asked.trained
    ids_1L = batch.input_ids
    assert ids_1L is not None
    places, _ = asked.words
    blank_1L = ids_1L.clone()
    blank_1L[:, torch.from_numpy(places).to(blank_1L.device)] = blank_token(trained.tokenizer)
    table = word_table(trained.model)
    with torch.no_grad():
        given_1LD, blank_1LD = table(ids_1L), table(blank_1L)

    def output(embedded_KLD: Tensor) -> Tensor:
        with embedded_as(table, embedded_KLD):
            return asked.logits(repeated(batch, len(embedded_KLD)))[:, asked.target]

    with unlocked(trained):
        values_1LD = IntegratedGradients(output).attribute(
            given_1LD, baselines=blank_1LD, n_steps=STEPS, internal_batch_size=_AT_ONCE
        )
    with torch.no_grad():
        ends = [float(asked.logits(replace(batch, input_ids=ids))[0, asked.target]) for ids in (ids_1L, blank_1L)]
    return Attributed(values_1LD[0].sum(dim=-1).detach().cpu().numpy(), *ends)


def word_table(model: nn.Module) -> nn.Embedding:
    """The embeddings of a model's words: of all such tables the largest."""
    found: list[Any] = [module for name, module in model.named_modules() if name.rpartition(".")[2] in _TABLES]
    return max(found, key=lambda table: table.num_embeddings)


@contextmanager
def embedded_as(table: nn.Embedding, embedded_KLD: Tensor) -> Iterator[None]:
    """While it lasts, texts of K rows come out of ``table`` as these; a family may look up all L tokens or the last."""

    def give(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        length = embedded_KLD.shape[1]
        is_text = out.ndim == 3 and len(out) == len(embedded_KLD) and length - 1 <= out.shape[1] <= length
        return embedded_KLD[:, length - out.shape[1] :] if is_text else out

    hook = table.register_forward_hook(give)
    try:
        yield
    finally:
        hook.remove()


def _draw(subject: Subject, bars: list[tuple[str, list[str], np.ndarray]]) -> None:
    """A panel a sample: its words in order, of many those that add or take most."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.9 * len(bars)), dpi=110, layout="constrained")
    for axes, (title, words, values) in zip(figure.subplots(len(bars), 1, squeeze=False)[:, 0], bars, strict=True):
        kept = np.sort(np.argsort(-np.abs(values), kind="stable")[:_DRAWN])
        colours = [COLOURS[0] if value >= 0 else COLOURS[3] for value in values[kept]]
        axes.bar(range(len(kept)), values[kept], color=colours)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xticks(range(len(kept)), [plain(words[at]) for at in kept], rotation=40, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(wrapped(title, width=110, lines=1), fontsize=8, loc="left")
    subject.write_figure("attributions", figure)

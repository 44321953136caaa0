"""What a model attends to: its last layers, rollout over all of them, and which words look at which part of a picture.

T tokens of a stack, L words, P = h x w cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import COLOURS, plain
from analysis.inspect.asking import Asked, ask
from analysis.inspect.cam import overlay
from analysis.inspect.faithful import faithfulness, told_areas
from analysis.inspect.looking import Stack, rollout, stacks, weights
from analysis.inspect.subject import NotApplicable, Subject, draw_row, grid

PACKAGES = ()
_WORDS = 20  # of a text that are drawn
_LOOKING = 5  # words whose look at the picture is drawn
_NO_WORDS = {
    "mmbv": "the streams exchange their CLS states alone: no word sees a part of the picture",
    "clip": "its towers never see each other's tokens",
    "text": "it reads no picture",
    "image": "it reads no text",
}


_NO_GRID = "the regions of an object detector form no grid of cells"


def attention(subject: Subject) -> list[str]:
    """Writes attention.csv, attention_rows.csv, attention_curves.csv and a picture for each stack of layers.

    Raises:
        NotApplicable: the model has no layers that attend, or none of cells of a grid.
    """
    tokens, rows, points, drawn = [], [], [], {}
    if subject.trained.regions is not None:
        raise NotApplicable(_NO_GRID)
    for at in subject.shown:
        asked = ask(subject, int(at))
        for stack in stacks(subject.trained, asked.batch):
            kinds = {
                "last layer": stack.layers[-1].astype(np.float64).mean(axis=0)[0],
                "rollout": rollout(stack.layers)[0],
            }
            part = _tokens(asked, stack)
            for kind, values_T in kinds.items():
                part[kind.replace(" ", "_")] = values_T[part["position"]]
            own: dict[str, list[dict[str, Any]]] = {}
            measured_of = _areas(asked, stack, kinds, seed=subject.seed, points=own)
            for modality, curves in own.items():
                points += [{"id": subject.ids[at], "stack": stack.name, "modality": modality, **row} for row in curves]
            for modality, measured in measured_of.items():
                for kind, areas in measured.items():
                    rows.append({"id": subject.ids[at], "stack": stack.name, "kind": kind, "modality": modality,
                                 "explained": asked.name, "score": asked.score, **areas})  # fmt: skip
            tokens.append(part.assign(id=subject.ids[at], stack=stack.name))
            drawn.setdefault(stack.name, []).append((int(at), asked, stack, kinds))
    if not tokens:
        raise NotApplicable(f"family {subject.trained.config.family} as it is set here has no layers that attend")
    table = pd.concat(tokens)
    columns = ["id", "stack", "position", "what", "token", "last_layer", "rollout"]
    subject.write_table("attention", table.loc[:, columns])
    areas = pd.DataFrame(rows)
    subject.write_table("attention_rows", areas)
    subject.write_table("attention_curves", pd.DataFrame(points))
    for name, samples in drawn.items():
        _draw(subject, name, samples)
    names = [f"{stack}, {kind}, {modality}" for stack, kind, modality in zip(
        areas["stack"], areas["kind"], areas["modality"], strict=True
    )]  # fmt: skip
    return told_areas(areas.assign(name=names), "name")


def co_attention(subject: Subject) -> list[str]:
    """Writes co_attention.csv and co_attention.png: how much each word looks at each part of the picture.

    Raises:
        NotApplicable: no layer of the model lets words see parts of pictures.
    """
    tokens, rows = [], []
    for at in subject.shown:
        asked = ask(subject, int(at))
        found = words_to_cells(subject, asked)
        places, words = asked.words
        shape = grid_shape(found.shape[1])
        for place, word in zip(places, words, strict=True):
            cells = np.arange(found.shape[1])
            tokens.append(
                pd.DataFrame({"id": subject.ids[at], "position": place, "token": word, "row": cells // shape[1],
                              "column": cells % shape[1], "weight": found[place]})
            )  # fmt: skip
        rows.append((int(at), asked, found, shape))
    if not tokens:
        raise NotApplicable("none of the rows that are shown has a word")
    subject.write_table("co_attention", pd.concat(tokens))
    title = f"Where the {_LOOKING} words look that look at the picture most"
    figure, panels = grid(len(rows), 1 + _LOOKING, title=title)
    for axes, (at, asked, found, shape) in zip(panels, rows, strict=True):
        draw_row(axes[0], subject, at, title=f"{subject.label(at)}; said {asked.name}", modality="image")
        places, words = asked.words
        order = np.argsort(-found[places].sum(axis=1), kind="stable")[:_LOOKING]
        for panel, word in zip(axes[1:], np.sort(order), strict=False):
            overlay(panel, subject.picture(at), found[places[word]].reshape(shape))
            panel.set_title(f"{plain(words[word])}: {found[places[word]].sum():.2f}", fontsize=7)
    subject.write_figure("co_attention", figure)
    looked = [float(found[asked.words[0]].sum(axis=1).mean()) for _, asked, found, _ in rows if len(asked.words[0])]
    return [f"a word looks at the picture with {np.mean(looked):.4f} of its attention"]


def words_to_cells(subject: Subject, asked: Asked) -> np.ndarray:
    """(L, P): the attention of each token of the text to each cell, mean over heads, of the last layer that has both.

    Raises:
        NotApplicable: there is none.
    """
    trained, family = subject.trained, subject.trained.config.family
    if family in _NO_WORDS:
        raise NotApplicable(f"family {family}: {_NO_WORDS[family]}")
    assert asked.batch.input_ids is not None or "text" not in trained.modalities
    if trained.regions is not None:
        raise NotApplicable(_NO_GRID)
    if family == "vilbert":
        found = weights(trained, asked.batch)
        if trained.config.model.architecture == "lxmert":
            maps = [one.maps_HNM for one in found if one.path.endswith("visual_attention.att")]
            length = asked.batch.input_ids.shape[1]  # pyright: ignore[reportOptionalMemberAccess]
            return [one for one in maps if one.shape[1] == length][-1].mean(axis=0)
        maps = [one.maps_HNM for one in found if one.path.endswith(".text_reads")]
        return maps[-1].mean(axis=0)[:, 1:]  # the first region is the whole picture
    joint = [stack for stack in stacks(trained, asked.batch) if stack.words and len(stack.cells)]
    if not joint:
        raise NotApplicable(f"family {family} as it is set here has no layer in which words see parts of a picture")
    stack = joint[-1]
    mean_TT = stack.layers[-1].mean(axis=0)
    found_LP = np.zeros((asked.batch.input_ids.shape[1], len(stack.cells)))  # pyright: ignore[reportOptionalMemberAccess]
    for position, token in stack.words.items():
        found_LP[token] = mean_TT[position, stack.cells]
    return found_LP


def grid_shape(num: int) -> tuple[int, int]:
    """h, w of so many cells, as :func:`trainables.encoders.grid.pool_grid` makes them."""
    side = round(num**0.5)
    if side * side == num:
        return side, side
    return (num // 2, 2) if num in (6, 8) else (num, 1)


def _tokens(asked: Asked, stack: Stack) -> pd.DataFrame:
    """A row a token of the stack that is a word or a cell: position, what, token ('row,column' of a cell)."""
    rows = []
    if stack.words:
        places, words = asked.words
        named = dict(zip(places.tolist(), words, strict=True))
        rows += [(at, "text", named[token]) for at, token in stack.words.items() if token in named]
    shape = grid_shape(len(stack.cells)) if len(stack.cells) else (0, 0)
    rows += [(int(at), "image", f"{n // shape[1]},{n % shape[1]}") for n, at in enumerate(stack.cells)]
    return pd.DataFrame(rows, columns=pd.Index(["position", "what", "token"]))


def _areas(
    asked: Asked, stack: Stack, kinds: dict[str, np.ndarray], *, seed: int, points: dict[str, list[dict[str, Any]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Areas under deletion and insertion by modality of the stack and kind; ``points`` of the curves by modality."""
    found = {}
    if len(stack.cells):
        shape = grid_shape(len(stack.cells))
        cells = {kind: values_T[stack.cells] for kind, values_T in kinds.items()}
        points["image"] = own = []
        found["image"] = faithfulness(lambda there: asked.without_cells(there, shape), cells, seed=seed, points=own)
    places = asked.words[0] if stack.words else np.zeros(0, np.int64)
    if len(places):
        position = {token: at for at, token in stack.words.items()}
        at = [position[token] for token in places.tolist()]
        words = {kind: values_T[at] for kind, values_T in kinds.items()}
        points["text"] = own = []
        found["text"] = faithfulness(lambda there: asked.without_tokens(there, places), words, seed=seed, points=own)
    return found


def _draw(subject: Subject, name: str, samples: list[tuple[int, Asked, Stack, dict[str, np.ndarray]]]) -> None:
    """A line a sample: picture with each map over it, and bars of the words."""
    has_cells, has_words = len(samples[0][2].cells) > 0, bool(samples[0][2].words)
    columns = 3 * has_cells + 2 * has_words
    title = f"Attention of the first token: {name}"
    figure, panels = grid(len(samples), columns, title=title, width=2.0, height=2.0)
    for axes, (at, asked, stack, kinds) in zip(panels, samples, strict=True):
        rest = list(axes)
        if has_cells:
            draw_row(rest.pop(0), subject, at, title=f"{subject.label(at)}; said {asked.name}", modality="image")
            for kind, values_T in kinds.items():
                panel = rest.pop(0)
                overlay(panel, subject.picture(at), values_T[stack.cells].reshape(grid_shape(len(stack.cells))))
                panel.set_title(kind, fontsize=7)
        if has_words:
            for kind, values_T in kinds.items():
                _bars(rest.pop(0), _tokens(asked, stack), values_T, kind)
    subject.write_figure(f"attention-{name}", figure)


def _bars(axes: Any, tokens: pd.DataFrame, values_T: np.ndarray, title: str) -> None:
    words = tokens.loc[tokens["what"] == "text"].head(_WORDS)
    axes.axis("on")
    axes.barh(range(len(words)), values_T[words["position"].to_numpy(int)], color=COLOURS[0])
    axes.set_yticks(range(len(words)), [plain(word) for word in words["token"]], fontsize=6)
    axes.tick_params(axis="x", labelsize=6)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"words, {title}", fontsize=7)

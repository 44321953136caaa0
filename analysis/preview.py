"""Pictures of samples: beside their augmented copies, or beside what models said of them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.figures import plain
from trainables.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORDS = 60  # characters a line


def write_preview(examples: Sequence[Any], path: Path, *, title: str) -> None:
    """Draws a row an example: image, text, and the same augmented with the replaced words in brackets.

    Args:
        examples: with ``id``, ``text``, ``augmented_text``, ``image`` and ``augmented_image``, see
            :class:`trainables.data.check.preview.Example`.
        path: a .png, .pdf or .svg file.
        title: of the picture.

    Raises:
        ValueError: a file type that cannot be written.
    """
    figure, rows = _figure(path, title, rows=len(examples), widths=[1, 3, 1, 3], width=11)
    for row, example in zip(rows, examples, strict=True):
        _draw(row[0], row[1], example.image, example.text)
        _draw(row[2], row[3], example.augmented_image, marked(example.text, example.augmented_text))
    _save(figure, path)


def write_samples(
    texts: Sequence[str], images: Sequence[Any], told: Sequence[Sequence[str]], path: Path, *, title: str
) -> None:
    """Draws a row a sample: picture, text, and lines about it.

    Args:
        texts: one a sample.
        images: (S, S, 3) uint8 each, or None.
        told: lines a sample.
        path: a .png, .pdf or .svg file.
        title: of the picture.

    Raises:
        ValueError: a file type that cannot be written.
    """
    figure, rows = _figure(path, title, rows=len(texts), widths=[1, 3, 2], width=9)
    for row, text, image, lines in zip(rows, texts, images, told, strict=True):
        _draw(row[0], row[1], image, text)
        row[2].text(0, 0.5, "\n".join(map(plain, lines)), va="center", fontsize=9)
    _save(figure, path)


def marked(before: str | None, after: str | None) -> str | None:
    """``after`` with the words that are not those of ``before`` in [brackets]."""
    if before is None or after is None:
        return after
    old, new = (re.split(r"(\W+)", text) for text in (before, after))
    if len(old) != len(new):
        return after
    return "".join(part if part == was else f"[{part}]" for was, part in zip(old, new, strict=True))


def _figure(path: Path, title: str, *, rows: int, widths: Sequence[int], width: float) -> tuple[Figure, Any]:
    """An empty figure and its panels, a row a sample."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = FigureCanvasAgg(Figure()).get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise ValueError(f"--out {path}: write .png, .pdf or .svg")
    figure = Figure(figsize=(width, 1.5 * rows + 0.6), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    for axis in panels.flat:
        axis.axis("off")
    return figure, panels


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix.lstrip(".").lower())


def _draw(image_axis: Any, text_axis: Any, image: Any, text: str | None) -> None:
    if image is not None:
        image_axis.imshow(image, interpolation="nearest")
    if text is not None:
        short = textwrap.shorten(text, 6 * _WORDS, placeholder=" ...")
        wrapped = textwrap.fill(short, _WORDS // 2).replace("$", r"\$")
        text_axis.text(0, 0.5, wrapped, va="center", fontsize=9)

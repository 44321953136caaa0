"""A matplotlib figure that Jupyter shows as a picture; a plain one it shows as text, unless pyplot was imported."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure without pyplot, to be saved by ``savefig`` or shown as a notebook's output."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png")
        return out.getvalue()

"""Tables as CSV files have them: UTC times as study folders write them, true and false, nothing where nothing is."""

from __future__ import annotations

import pandas as pd
from pandas.api import types

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV: times like 2026-01-31T23:59:59Z, true and false, an empty cell for what is missing."""
    said = table.copy()
    for name in said.columns:
        column = said[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            said[name] = column.dt.tz_convert("UTC").dt.strftime(_TIME)
        elif types.is_bool_dtype(column) or column.dtype == object:
            said[name] = column.map({True: "true", False: "false"}.get if types.is_bool_dtype(column) else _cell)
    return said.to_csv(index=False, lineterminator="\n")


def _cell(value: object) -> object:
    """Of a column with several kinds of values."""
    return ("true" if value else "false") if isinstance(value, bool) else value

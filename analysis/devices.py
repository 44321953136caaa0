"""Times depend on the kind of device: whoever shows several kinds on one axis or in one column says so."""

from __future__ import annotations

import pandas as pd

from mmtune import records

_TIMES = (*records.TIMES, "cumulative_device_seconds")


def kinds(table: pd.DataFrame) -> dict[str, int]:
    """Kind of device -> how many of the table's trials ran on it; trials that do not say are left out."""
    if records.DEVICE not in table:
        return {}
    named = table.loc[table[records.DEVICE] != "", records.DEVICE]
    return {str(name): int(count) for name, count in named.value_counts().sort_index().items()}


def warning(table: pd.DataFrame, column: str) -> str | None:
    """What must be said where ``column`` of these trials is compared; None if it can be compared as it is."""
    found = kinds(table)
    if column not in _TIMES or len(found) < 2:
        return None
    listed = ", ".join(f"{name} ({count} trial{'s' * (count > 1)})" for name, count in found.items())
    return f"{column} of {len(found)} kinds of devices, which do not compare: {listed}"


def with_device(header: list[str], table: pd.DataFrame) -> list[str]:
    """``header`` with the column ``device`` at its end where the table has several kinds."""
    return [*header, records.DEVICE] if len(kinds(table)) > 1 else header

"""What a comparison says in words: a decision tree whose every branch has its evidence beside it.

The tree asks whether the modality is part of the meaning (take the model that reads it), decorative (leave it out) or
too dear for what it brings (take the cheaper one), and says how much more evidence it would take where that is open.
"""

from __future__ import annotations

import math

import pandas as pd

from analysis.compare import ALONE, WITH, WITHOUT, Comparison
from analysis.compared import PRICES, agreement
from analysis.paired import Difference

_TOO_MANY = 10  # times the samples that there are
_PRICE_NAMES = {
    "device_seconds": "training time",
    "peak_memory_gib": "memory",
    "inference_ms_per_sample": "time to answer",
    "num_parameters": "parameters",
}


def answer(found: Comparison) -> list[str]:
    """The answer first, then what it rests on, a line each."""
    whole, without = found.candidates[WITH], found.candidates[WITHOUT]
    gain, what = found.gain, found.modality
    lines = [_decision(found)]
    if found.over_seeds is not None:
        over, (ours, theirs) = found.over_seeds, found.over_seeds.seeds
        lines.append(
            f"gain of {what} over seeds: {_signed(over.gain)} test {found.metric} (means of {ours} and {theirs} seeds, "
            "each tested once; Welch's interval)"
        )
    lines.append(
        f"gain of {what}: {_signed(gain)} {found.metric} on {len(found.ids):,} samples of {found.split} "
        f"({whole.name} {whole.row['family']} {whole.value:.4f}, {without.name} {without.row['family']} "
        f"{without.value:.4f}){_p(found)}"
    )
    if found.over_alone is not None:
        alone = found.candidates[ALONE]
        lines.append(f"over {what} alone: {_signed(found.over_alone)} ({alone.name} {alone.value:.4f})")
    lines += _chooser(found)
    if found.interaction is not None:
        lines.append(
            f"interaction: {_signed(found.interaction)} {found.metric} is lost when the modalities may only add up "
            f"(EMAP): {_interaction(found.interaction)}"
        )
    lines.append(f"price: {_prices(found)}")
    if found.budget is not None:
        dear = [one.name for one in found.candidates.values() if one.spent > found.budget]
        over = f"; {', '.join(dear)} took more, and nothing of its group less" if dear else ""
        lines.append(f"each group had {found.budget:.1f} device-seconds of search, as the cheapest took in all{over}")
    if found.split == "val" and found.over_seeds is None:
        lines.append(
            "caution: trials and epochs were chosen on these samples, which flatters all groups; "
            "`mmtune confirm` trains the finalists on fresh seeds and tests each once"
        )
    return lines


def _decision(found: Comparison) -> str:
    gain, what, family = found.decisive, found.modality, found.candidates[WITH].row["family"]
    if gain.low > 0 and gain.gain >= found.worth:
        how = "" if found.interaction is None else f", {_interaction(found.interaction)}"
        return f"yes: {what} is part of the meaning{how}. Take {found.candidates[WITH].name} ({family})"
    without = found.candidates[WITHOUT]
    if gain.high < found.worth:
        return (
            f"no: {what} is decorative here, it brings less than {found.worth:g}. "
            f"Take {without.name} ({without.row['family']})"
        )
    if gain.low > 0:
        return (
            f"hardly: {what} helps, by less than {found.worth:g}. With limited resources take "
            f"{without.name} ({without.row['family']})"
        )
    return f"not enough evidence that {what} helps: {_missing(found)}"


def _missing(found: Comparison) -> str:
    """What would decide an open question."""
    seeds = "more seeds: mmtune confirm"
    if found.over_seeds is not None:
        needed, have = found.over_seeds.needed, min(found.over_seeds.seeds)
        if needed is None or needed > _TOO_MANY * have:
            return f"the difference is too small for {have} seeds"
        return f"about {max(1, needed - have)} more seeds would decide"
    if found.needed is None or found.needed > _TOO_MANY * len(found.ids):
        return f"the difference is too small for these {len(found.ids):,} samples; {seeds}"
    return f"about {found.needed - len(found.ids):,} more samples would decide, or {seeds}"


def _interaction(lost: Difference) -> str:
    if lost.low > 0:
        return "which lies in how the modalities go together"
    if lost.high < 0.01:
        return "which is additive: a late fusion or an ensemble would do"
    return "and whether they interact stays open"


def _chooser(found: Comparison) -> list[str]:
    cells = agreement(found)
    if cells is None:
        return []
    by_name = cells.set_index("right")
    total = len(found.ids)
    reach = (total - by_name.loc["neither", "samples"]) / total
    counts = zip(cells["right"], cells["right_with"], cells["samples"], strict=True)
    rows = [f"{name}: {right} of {samples}" for name, right, samples in counts]
    return [
        f"a perfect chooser between without {found.modality} and {found.modality} alone would be right on {reach:.1%}; "
        f"right with it where right are {', '.join(rows)}"
    ]


def _prices(found: Comparison) -> str:
    parts = []
    for price in PRICES:
        dear, cheap = (found.candidates[role].row.get(price) for role in (WITH, WITHOUT))
        if dear is None or cheap is None or pd.isna(dear) or pd.isna(cheap) or not cheap:
            continue
        parts.append(f"{dear / cheap:.2g}x the {_PRICE_NAMES[price]}")
    kinds = {str(found.candidates[role].row.get("device_kind")) for role in (WITH, WITHOUT)}
    note = f" (on different devices: {', '.join(sorted(kinds))})" if len(kinds) > 1 else ""
    return (", ".join(parts) or "not measured") + note


def _signed(difference: Difference) -> str:
    return f"{difference.gain:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _p(found: Comparison) -> str:
    if found.p_value is None or math.isnan(found.p_value):
        return ""
    return f", McNemar p = {found.p_value:.2g}"

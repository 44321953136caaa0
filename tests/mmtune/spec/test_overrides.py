"""What --set changes in a search file."""

from __future__ import annotations

import pytest
from spec_files import FAMILIES, GOOD

from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

pytestmark = pytest.mark.usefixtures("stand_ins")


def test_overrides():
    spec = load_spec(
        GOOD,
        overrides=[
            "budget.trials=4",
            "fixed.epochs = 5",
            "fixed.uda.temperature=0.5",
            "space.uda.lam.low=1.0e-4",
            "space.uda.n.when.uda.mode=[dynamic]",
            "space.uda.mode.choices.0=none",
            "space.optim.lr=null",
            "space.optim.beta1={type: float, low: 0.8, high: 0.99}",
            "try_first.0={uda.mode: fixed}",
            "try_first.0.uda.lam=2",
            "objectives.1.metric=num_parameters",
            "resources={}",
        ],
        name="other",
    )
    assert (spec.study, spec.budget.trials, spec.epochs, spec.fixed["uda.temperature"]) == ("other", 4, 5, 0.5)
    assert spec.space.domains["uda.lam"][0].low == 1e-4  # type: ignore[union-attr]
    assert spec.space.keys == ("model.dropout", "uda.mode", "uda.lam", "uda.n", "uda.k", "optim.beta1")
    assert spec.try_first == ({"uda.mode": "fixed", "uda.lam": 2.0},)
    assert (spec.objectives[1].metric, spec.resources.workers) == ("num_parameters", 1)
    assert load_spec(GOOD, overrides=["fixed={}"]).fixed == {}


def test_overrides_reach_into_alternatives():
    spec = load_spec(FAMILIES, overrides=["space.optim.lr.1.high=0.01", "family.choices=[text, fusion]"])
    assert spec.space.domains["optim.lr"][1].high == 0.01  # type: ignore[union-attr]
    assert spec.families == ("text", "fusion")


@pytest.mark.parametrize(
    "override, key, message",
    [
        ("budget.trials", "budget.trials", "write key=value"),
        ("=3", "=", "write key=value"),
        ("budget..trials=3", "budget..trials", "write key=value"),
        ("budget.trials=[", "budget.trials", "while parsing a flow"),
        ("budget.trials=*a", "budget.trials", "anchors"),
        ("budget.trials={a: 1, a: 2}", "budget.trials", "is given twice"),
        ("budget.trails=3", "budget.trails", "did you mean 'trials'?"),
        ("buget.trials=3", "buget", "did you mean 'budget'?"),
        ("budget.trials.x=3", "budget.trials", "is 48; there is no 'x' in it"),
        ("space.optim.lrr.low=1.0", "space.optim.lrr.low", "is not in space, did you mean 'optim.lr'?"),
        ("space.optim.lr.low=1e-5", "space.optim.lr.low", "'1e-5' is a string in YAML; write 1.0e-5"),
        ("space.optim.lr.lo=1.0", "space.optim.lr.lo", "did you mean 'low'?"),
        ("space.optim.lr.0.low=1.0", "space.optim.lr", "there is no entry 0 in it"),
        ("fixed.epocs=3", "fixed.epocs", "did you mean 'epochs'?"),
        ("try_first.7.uda.n=1", "try_first", "has 1 entries, counted from 0; there is no 7"),
        ("try_first.x=1", "try_first", "'x' is not the number of an entry"),
        ("fixed.model.kind=lat", "fixed.model.kind", "did you mean 'late'?"),
        ("model.kind=late", "model", "goes under fixed"),
    ],
)
def test_problems_of_overrides_name_the_override(override, key, message):
    with pytest.raises(SpecError) as caught:
        load_spec(GOOD, overrides=[override])
    ((found, line, text),) = caught.value.problems
    assert (found, line) == (key, None)
    assert message in text
    assert f"  {key} (--set {override}): " in str(caught.value)


def test_name_is_checked():
    with pytest.raises(SpecError, match=r"study \(name 'A'\): 'A' does not fit"):
        load_spec(GOOD, name="A")

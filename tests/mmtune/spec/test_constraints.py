"""The section constraints: what is read, and what is said of anything else."""

import pytest

from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

SPEC = """
study: s
family: text
dataset: openclipart
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2}}
budget: {trials: 2}
"""


def test_limits_are_numbers():
    spec = load_spec(f"{SPEC}constraints:\n  peak_memory_gib: <= 12\n  inference_ms_single: '<=1.5e1'\n")
    assert spec.constraints == {"peak_memory_gib": 12.0, "inference_ms_single": 15.0}
    assert load_spec(SPEC).constraints == {}
    changed = load_spec(SPEC, overrides=["constraints.peak_memory_gib=<= 3"])
    assert changed.constraints == {"peak_memory_gib": 3.0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{peak_memory: <= 12}", "'peak_memory' is unknown, did you mean 'peak_memory_gib'?"),
        ("{peak_memory_gib: 12}", "is 12; write '<= 12'"),
        ("{peak_memory_gib: '>= 12'}", "is '>= 12'; write '<= 12'"),
        ("{peak_memory_gib: <= twelve}", "is '<= twelve'; write '<= 12'"),
        ("{peak_memory_gib: <= inf}", "is '<= inf'; write '<= 12'"),
        ("{peak_memory_gib: <= 0}", "a limit is above 0"),
        ("{epochs: <= 3}", "fixed.epochs"),
        ("[peak_memory_gib]", "a mapping is expected"),
    ],
)
def test_anything_else_is_refused_with_its_line(given, said):
    with pytest.raises(SpecError) as caught:
        load_spec(f"{SPEC}constraints: {given}\n")
    assert said in str(caught.value)
    assert "(line 7)" in str(caught.value)

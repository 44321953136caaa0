"""How problems are worded."""

from __future__ import annotations

import pytest
import yaml

from trainables.messages import did_you_mean, from_known, nearest, number_problem, show, unknown


@pytest.mark.parametrize(
    "text, written",
    [("1e-5", "1.0e-5"), ("1e5", "1.0e+5"), ("2.5E3", "2.5e+3"), ("-3.e2", "-3.0e+2"), ("5", "5"), ("0.1", "0.1")],
)
def test_numbers_that_yaml_reads_as_strings(text, written):
    assert number_problem(text) == f"'{text}' is a string in YAML; write {written}"
    assert yaml.safe_load(written) == float(text)


def test_words():
    assert unknown("mbmv", ["clip", "mmbv"]) == "'mbmv' is unknown, did you mean 'mmbv'? Known: clip, mmbv"
    assert unknown(False, ["none", None]) == "false is unknown. Known: none, null"
    assert did_you_mean("zzz", ["abc"]) == ""
    assert from_known("zzz", [str(number) for number in range(13)]).endswith(
        ". Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."
    )
    assert show(1e-5) == "1.0e-05" and show("a" * 99).endswith("...")
    assert number_problem(10**400) is not None and number_problem(10**400, is_int=True) is None


def test_the_nearest_name():
    assert nearest("hid", ["hi", "hidden_size", "hide"]) == "hidden_size"  # what it begins comes first
    assert nearest("hidden", ["hiden"]) == "hiden" and nearest("hidden", ["hiden"], cutoff=0.95) is None

"""``mmtune inspect`` as people use it."""

from __future__ import annotations

import pytest

from mmtune.models.inspections import INSPECTIONS


@pytest.mark.slow
def test_what_it_finds_is_told_and_written(mmtune, tiny):
    (mmtune.cwd / "tiny.yaml").write_text(tiny)
    assert mmtune("train", "tiny.yaml").code == 0
    given = ("trained/tiny", "--rows", 40, "--shown", 2)
    done = mmtune("inspect", *given, "--what", "calibration, cam,attributions", "--to", "seen")
    assert done.code == 0 and done.err == "", done
    lines = done.out.splitlines()
    assert lines[0].startswith("calibration: expected calibration error 0.")
    assert lines[1].startswith("attributions: integrated gradients: deletion 0.")
    assert lines[3] == "cam: not applicable: the model reads text, no picture"
    files = ["calibration.csv", "calibration.png", "attributions.csv", "attribution_rows.csv",
             "attribution_curves.csv", "attributions.png"]  # fmt: skip
    assert lines[4] == f"tiny: 40 rows; written: seen: {', '.join(files)}"
    assert sorted(path.name for path in (mmtune.cwd / "seen").iterdir()) == sorted(files)
    said = mmtune.refused("inspect", "trained/tiny", "--what", "cam,retrieval")
    assert said.splitlines() == [
        "tiny: nothing to write",
        "  cam: not applicable: the model reads text, no picture",
        "  retrieval: not applicable: the model reads text alone",
    ]
    assert not (mmtune.cwd / "trained" / "tiny" / "inspected").exists()
    assert mmtune.refused("inspect", *given, "--what", "cams").startswith(
        "--what: 'cams' is unknown, did you mean 'cam'"
    )
    assert mmtune.refused("inspect", *given, "--what", ",").startswith("--what: is empty; some of latent, retrieval")


def test_the_names_are_in_the_help_and_the_list(mmtune):
    told = " ".join(mmtune("inspect", "--help").out.split())
    listed = mmtune("list", "inspections").out
    for name, row in INSPECTIONS.items():
        assert f"{name}: {row.about}." in told and f"{name}  " in listed and row.about in listed

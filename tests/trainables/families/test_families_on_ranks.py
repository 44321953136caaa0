"""Every family trains on two gloo ranks as it does on one: same batches, gradients averaged, nothing left out."""

import cases
import pytest

from trainables.families import FAMILIES, family_module


def config_of(family, toy):
    uda = {"mode": "fixed", "views": "text" if "text" in family_module(family).MODALITIES else "image"}
    model = getattr(cases.of(family), "ON_RANKS", {})
    return toy(family, model=model, epochs=3, batch_size=9, optim={"lr": 1e-3}, uda=uda)


@pytest.fixture(scope="module")
def outs(toy, in_new_processes, tmp_path_factory):
    """Family -> what each of two ranks got out, and what one process did."""
    jobs = [
        [
            {"config": config_of(family, toy).to_dict(), "folder": str(tmp_path_factory.mktemp(family))}
            for family in FAMILIES
        ]
        for _ in range(2)
    ]
    jobs = [[{**job, "is_noiseless": True} for job in each] for each in jobs]
    first, second = in_new_processes(jobs[0], world=2)
    (alone,) = in_new_processes(jobs[1], world=1)
    return dict(zip(FAMILIES, zip(first, second, alone, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_on_two_ranks_as_on_one(family, outs):
    first, second, alone = outs[family]
    assert "error" not in first and "error" not in alone, (first, alone)
    assert first["rows"] == second["rows"] and len(first["rows"]) == 3
    for row, expected in zip(first["rows"], alone["rows"], strict=True):
        for key, value in expected.items():
            if key.startswith(("train_loss", "train_supervised", "val_loss")):
                assert row[key] == pytest.approx(value, rel=2e-4), (row["epoch"], key)
    assert first["rows"][0]["train_loss"] != first["rows"][2]["train_loss"]

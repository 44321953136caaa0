import pytest

from analysis.studies import load_studies
from analysis.tables import family_table, pareto_table, shown, study_table


def test_study_table_is_ranked_and_compact(studies):
    fusion = studies.trial(1, family="fusion", val_accuracy=0.91234, device_seconds=12.34, **{"model.hidden": 256})
    failed = studies.trial(2, state="FAILED", val_accuracy=None, best_epoch=None)
    table = load_studies(studies.write("demo", [studies.trial(0), fusion, failed]))
    header, rows = study_table(table, "val_accuracy", "max")
    assert header == ["rank", "trial", "state", "family", "epochs", "val_accuracy", "device_seconds", "params"]
    assert rows == [
        ["1", "t0001", "COMPLETE", "fusion", "3", "0.9123", "12.3", "optim.lr=0.0003 model.hidden=256"],
        ["2", "t0000", "COMPLETE", "text", "3", "0.5000", "30.0", "optim.lr=0.0003"],
        ["", "t0002", "FAILED", "text", "3", "", "30.0", "optim.lr=0.0003"],
    ]
    assert study_table(table, "val_accuracy", "max", 1)[1] == rows[:1]
    assert study_table(table, "val_accuracy", "max", 0)[1] == []


def test_trials_of_several_studies_carry_their_study(studies):
    paths = [studies.of(studies.trial(0), name=name) for name in ("one", "two")]
    for make in (study_table, pareto_table):
        header, rows = make(load_studies(paths), "val_accuracy", "max")
        assert [row[header.index("trial")] for row in rows] == ["one/t0000", "two/t0000"]


def test_family_table_shows_the_gain_only_where_there_is_one(studies):
    both = [studies.trial(n, family=f, val_accuracy=0.5 + n / 10) for n, f in enumerate(["text", "image", "fusion"])]
    header, rows = family_table(load_studies(studies.write("both", both)), "val_accuracy", "max")
    assert [(row[0], row[-1]) for row in rows] == [("fusion", "+0.1000"), ("image", "+0.0000"), ("text", "-0.1000")]
    lone, _ = family_table(load_studies(studies.write("lone", both[2:])), "val_accuracy", "max")
    assert lone == header[:-1]


def test_null_is_shown_and_a_parameter_that_does_not_exist_is_not(studies):
    trials = [studies.trial(0, **{"model.hidden": "null"}), studies.trial(1, **{"model.hidden": 64}), studies.trial(2)]
    header, rows = study_table(load_studies(studies.write("demo", trials)), "val_accuracy", "max")
    said = sorted(row[header.index("params")] for row in rows)
    assert said == ["optim.lr=0.0003", "optim.lr=0.0003 model.hidden=64", "optim.lr=0.0003 model.hidden=null"]


def test_families_that_were_never_sampled_have_a_row(studies):
    path = studies.write("demo", [studies.trial(0), studies.trial(1, family="fusion", val_accuracy=0.6)])
    header, rows = family_table(load_studies(path), "val_accuracy", "max")
    assert [row[:2] for row in rows] == [["fusion", "1"], ["text", "1"], ["image", "0"]]
    assert dict(zip(header, rows[2], strict=True))["total_device_hours"] == "0"
    lone = studies.write("lone", [studies.trial(0)], family="text")
    assert [row[0] for row in family_table(load_studies(lone), "val_accuracy", "max")[1]] == ["text"]


def test_the_best_configuration_of_a_family_over_its_seeds(studies):
    values = [0.7, 0.8, 0.9, 0.2, None]
    same = [studies.trial(n, val_accuracy=value, state="COMPLETE" if value else "FAILED")
            for n, value in enumerate(values)]  # fmt: skip
    same[3]["optim.lr"] = 1e-5  # another configuration
    header, rows = family_table(load_studies(studies.write("demo", same)), "val_accuracy", "max")
    said = dict(zip(header, rows[0], strict=True))
    assert said["mean ± sd (seeds)"] == "0.8000 ± 0.1000 (3)"  # variance (0.01 + 0 + 0.01) / 2


def test_family_without_a_result_has_empty_cells(studies):
    path = studies.write("demo", [studies.trial(0), studies.trial(1, family="image", state="FAILED")])
    _, rows = family_table(load_studies(path), "val_accuracy", "max")
    assert rows[1:] == [["fusion", "0", "", "", "", "0"], ["image", "1", "", "", "", "0.00833"]]


@pytest.mark.parametrize("metric", ["val_accuracy", "device_seconds"])  # a cost may be an objective too
def test_tables_have_each_column_once(studies, metric):
    table = load_studies(studies.write("demo", [studies.trial(0)]))
    for make in (study_table, family_table):
        header, rows = make(table, metric, "min")
        assert len(set(header)) == len(header) == len(rows[0])


def test_pareto_table_prices_each_step(studies):
    trials = [studies.trial(n, val_accuracy=0.5 + n / 10, num_parameters=10**n) for n in range(3)]
    header, rows = pareto_table(
        load_studies(studies.write("demo", trials)), "val_accuracy", "max", cost="num_parameters"
    )
    assert [row[header.index("num_parameters")] for row in rows] == ["1", "10", "100"]
    assert [row[-1] for row in rows] == ["", "0.9", "9"]


def test_numbers_are_shown_as_their_kind_needs():
    assert shown("optim.lr", 0.00031234) == "0.000312"
    assert shown("val_accuracy", 0.5) == "0.5000"
    assert shown("device_seconds", 1234.56) == "1234.6"
    assert shown("uda.n", 4) == "4"
    assert shown("loss.pos_weight", True) == "true"
    assert shown("model.hidden", None) == shown("val_accuracy", float("nan")) == ""

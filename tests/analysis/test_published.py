import pytest

from analysis.page.published import beside_own, published
from analysis.studies import load_studies
from trainables.metrics import METRICS


def value(rows, **wanted):
    for name, cell in wanted.items():
        rows = rows.loc[rows[name] == cell]
    (row,) = rows.to_dict("records")
    return row["value"], row["sd"]


def test_published_rows_are_those_of_the_papers():
    rows = published()
    assert set(rows["metric"]) <= {*METRICS, "inference_ms_per_sample"}
    shares = rows.loc[~rows["metric"].str.startswith("inference")]
    assert shares["value"].between(0.1, 1).all() and shares["sd"].dropna().between(0, 0.1).all()
    of = {"dataset": "food101", "model": "Ours", "metric": "accuracy"}
    assert value(rows, **of)[0] == 0.922
    of = {"dataset": "moviescope", "model": "MMBV", "table": "Table 3", "variant": "UDA dynamic", "metric": "ap_micro"}
    assert value(rows, **of) == (0.794, 0.003)
    of = {"dataset": "hateful_memes", "model": "FLAVA", "metric": "auroc"}
    assert value(rows, **of)[0] == 0.77
    # 8 models x (3 datasets x 2 + 1); 5 x 4; 23 x 4; 12 x 4 x 2; 3 x 2 x 2; 4 x 3 + 3 x 2
    assert len(rows) == 56 + 20 + 92 + 96 + 12 + 18


def test_own_trials_stand_beside_and_apart(studies):
    trials = [studies.trial(0, family="text", val_accuracy=0.5), studies.trial(1, family="text", val_accuracy=0.6)]
    table = load_studies(studies.of(*trials))
    found = beside_own(table, "hateful_memes")
    assert found is not None
    header, rows = found
    said = [dict(zip(header, row, strict=True)) for row in rows]
    bert = next(row for row in said if row["model"] == "BERT" and row["metric"] == "accuracy")
    assert (bert["published"], bert["own"], bert["on"], bert["trial"]) == ("0.6230", "0.6000", "val", "t0001")
    assert float(bert["difference"]) == pytest.approx(-0.023)
    assert all(row["own"] == "" for row in said if row["model"] != "BERT")
    assert beside_own(table, "openclipart") is None


@pytest.mark.slow
def test_each_variant_of_uda_has_its_own_trials(studies):
    table = load_studies(studies.of(studies.trial(0, family="mmbv"))).assign(val_ap_micro=0.7)
    table["uda.mode"] = "dynamic"
    found = beside_own(table, "moviescope")
    assert found is not None
    header, rows = found
    said = [dict(zip(header, row, strict=True)) for row in rows]
    assert {row["variant"] for row in said if row["own"]} == {"UDA dynamic", "UDA dynamic Image", "UDA dynamic Text"}
    assert {row["input"] for row in said if row["own"]} == {"both"}

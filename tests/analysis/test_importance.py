import math
import random

import pytest

from analysis.importance import importances
from analysis.studies import load_studies


def a_study(studies, number=40):
    """The metric of text is its learning rate alone, that of fusion its hidden size alone."""
    generator = random.Random(0)
    trials = []
    for n in range(number):
        family = ("text", "fusion")[n % 2]
        lr, hidden = 10 ** generator.uniform(-4, -2), generator.randint(16, 512)
        value = -abs(math.log10(lr) + 3) if family == "text" else hidden / 1000
        row = {"family": family, "optim.lr": lr, "val_accuracy": value}
        trials.append(studies.trial(n, **row, **({"model.hidden": hidden} if family == "fusion" else {})))
    return load_studies(studies.write("demo", trials))


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", ["ped_anova", "fanova"])
def test_what_decides_is_found_in_each_family(studies, evaluator):
    found = importances(a_study(studies), "val_accuracy", "max", evaluator=evaluator).set_index(["group", "parameter"])
    shares = found["importance"].to_dict()
    assert shares["text", "optim.lr"] == pytest.approx(1)  # its only parameter
    assert shares["fusion", "model.hidden"] > 0.8 > 0.2 > shares["fusion", "optim.lr"]
    assert math.isnan(shares["all", "model.hidden"])  # text has none
    assert sum(share for (group, _), share in shares.items() if group == "fusion") == pytest.approx(1)
    assert set(found.loc["all"]["trials"]) == {40}


def test_too_few_trials_say_nothing_and_an_unknown_evaluator_is_refused(studies):
    table = a_study(studies, 6)
    assert importances(table, "val_accuracy", "max").empty
    with pytest.raises(ValueError, match="did you mean 'fanova'"):
        importances(table, "val_accuracy", "max", evaluator="fanva")

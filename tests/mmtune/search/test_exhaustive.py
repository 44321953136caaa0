"""Every combination once, and nothing that stops a loop of Optuna's which does not run."""

from mmtune.search.journal import Journal
from mmtune.search.samplers import SAMPLERS, make_sampler
from mmtune.space.domains import Categorical
from mmtune.space.optuna_names import suggest
from mmtune.space.space import Space


def test_the_last_combination_ends_like_all_others():
    space = Space({"a": (Categorical(("x", "y")),), "b": (Categorical((1, 2)),)})
    journal = Journal(None, name="s", objectives=[("val_accuracy", "max")])
    found = []
    for number in range(5):  # a budget may be larger than the space
        sampler = make_sampler("brute_force", options=SAMPLERS["brute_force"].options(), study_seed=1, number=number)
        found.append(suggest(space, journal.ask(sampler)))
        journal.tell(number, values=[0.5])
    assert sorted(map(str, found[:4])) == sorted(str({"a": a, "b": b}) for a in ("x", "y") for b in (1, 2))
    assert found[4] in found[:4]

import threading

import pytest

from trainables import loop, step
from trainables.data.ahead import ahead
from trainables.loop import fit, setup
from trainables.ranks import Ranks


@pytest.mark.slow
def test_batches_made_ahead_are_the_same_in_the_same_order(toy, tmp_path, monkeypatch):
    config = toy("fusion", uda={"mode": "dynamic"}, micro_batch_size=3)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=Ranks()).reports
    threads, load = set(), step.load

    def noted(*given):
        threads.add(threading.current_thread())
        return load(*given)

    monkeypatch.setattr(step, "load", noted)
    state = setup(config, folder=tmp_path / "ahead", ranks=Ranks())
    state.depth = 2
    assert fit(state) == "epochs"
    made_ahead = state.progress.reports
    assert [row["train_loss"] for row in made_ahead] == [row["train_loss"] for row in straight]
    assert [row["val_loss"] for row in made_ahead] == [row["val_loss"] for row in straight]
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_what_goes_wrong_ahead_is_raised_where_it_is_needed(depth):
    made = ahead(lambda item: 6 // item, [3, 2, 0, 1], depth=depth)
    assert next(made) == 2 and next(made) == 3
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert list(ahead(str, range(5), depth=depth)) == list("01234")

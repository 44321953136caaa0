import json

import pytest

from trainables import testing
from trainables.checkpoint import BEST, LAST
from trainables.evaluate import evaluate
from trainables.loop import setup, train
from trainables.ranks import Ranks


@pytest.mark.slow
def test_test_best_evaluates_the_best_epoch(toy, tmp_path):
    """A constant schedule makes a shorter trial the beginning of a longer one."""
    optim = {"lr": 0.03, "schedule": "constant", "warmup_ratio": 0.0}
    long = train(toy("image", epochs=8, optim=optim, objective="val_loss"), folder=tmp_path / "long")
    assert 1 < long.best_epoch < 8, [row["val_loss"] for row in long.reports]
    short = toy("image", epochs=long.best_epoch, optim=optim, objective="val_loss")
    train(short, folder=tmp_path / "short")
    state = setup(short, folder=tmp_path / "short", ranks=Ranks())  # goes on from the last epoch
    tested = evaluate(state, "test")
    expected = {"test_loss": tested.loss, **{f"test_{name}": value for name, value in tested.metrics.items()}}
    expected |= {f"test_{name}_left_out": number for name, number in tested.left_out.items()}
    config = toy("image", epochs=8, optim=optim, objective="val_loss")
    (tmp_path / "long" / LAST).unlink()  # the best one is all that is needed
    assert testing.test_best(config, folder=tmp_path / "long") == expected


def test_test_best_says_what_is_missing(toy, tmp_path):
    with pytest.raises(ValueError, match="best.safetensors: not a checkpoint"):
        testing.test_best(toy("image"), folder=tmp_path)
    train(toy("image", epochs=1), folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to another configuration; different: optim.lr, seed"):
        testing.test_best(toy("image", epochs=1, seed=2, optim={"lr": 1e-5}), folder=tmp_path)


def test_the_test_split_is_looked_at_once(toy, tmp_path):
    config = toy("image", epochs=1)
    train(config, folder=tmp_path)
    first = testing.test_once(config, folder=tmp_path, ranks=Ranks())
    assert first == testing.test_best(config, folder=tmp_path)
    assert json.loads((tmp_path / testing.TESTED).read_text()) == first
    (tmp_path / BEST).unlink()  # another look would need it
    assert testing.test_once(config, folder=tmp_path, ranks=Ranks()) == first

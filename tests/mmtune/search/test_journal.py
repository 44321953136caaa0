"""Optuna's journal on a disk that fills, and after a kill."""

import resource
import warnings

import pytest
from optuna.samplers import QMCSampler, RandomSampler

from mmtune.search.journal import Journal, take_back_proposal


def test_what_a_full_disk_cuts_short_is_taken_back_and_written_again(tmp_path):
    path, names = tmp_path / "optuna.log", [("val_loss", "min")]
    journal = Journal(path, name="s", objectives=names)
    journal.enqueue({"x": 0.5})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.enqueue({"x": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    again = Journal(path, name="s", objectives=names)
    count = len(again.trials())
    again.enqueue({"x": 1.5})
    assert len(Journal(path, name="s", objectives=names).trials()) == count + 1


@pytest.mark.parametrize("is_enqueued", [False, True])
@pytest.mark.parametrize("drawn", [0, 1, 2])
@pytest.mark.parametrize("sampler", [RandomSampler, QMCSampler])
def test_a_proposal_that_was_cut_short_is_made_again_from_its_first_draw(tmp_path, sampler, drawn, is_enqueued):
    """The rest alone would take the sampler's first numbers for others, and of a sequence the one behind."""

    def opened(name):
        return Journal(tmp_path / name, name="s", objectives=[("val_loss", "min")])

    def propose(journal, count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = journal.ask(sampler(seed=3))
            return [trial.suggest_float(name, 0.0, 1.0) for name in ("x", "y", "z")[:count]]

    for name in ("whole", "cut"):
        journal = opened(name)
        for _ in range(2):
            propose(journal, 3)
        if is_enqueued:
            journal.enqueue({"y": 0.25})
    propose(opened("cut"), drawn)
    journal = opened("cut")
    assert take_back_proposal(tmp_path / "cut", journal.trials(), lambda params: len(params) == 3)
    journal = opened("cut")
    assert len(journal.trials()) == 2 + is_enqueued
    assert propose(journal, 3) == propose(opened("whole"), 3)
    assert not take_back_proposal(tmp_path / "cut", opened("cut").trials(), lambda params: len(params) == 3)

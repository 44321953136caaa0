"""``learn_from`` from a search file to a proposal: what is read of other studies, kept in the new one, and refused."""

import random
import shutil

import pytest

from mmtune import records
from mmtune.records import open_study
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.learn import learn, with_lessons
from mmtune.study.ledger import Ledger
from mmtune.study.simulate import read_study, simulate, with_setting
from mmtune.study.tensorboard import param_kinds

OLD = """\
study: old
family: text
dataset: openclipart
objectives: [{metric: val_loss}]
fixed: {epochs: 3, model.text_encoder: tiny-bert, uda.mode: dynamic}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-1, log: true}
  optim.schedule: {type: categorical, choices: [linear, cosine, plateau]}
  uda.n: {type: int, low: 1, high: 8}
scheduler: {name: asha, grace_epochs: 1}
budget: {trials: 5}
"""
NEW = """\
study: new
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
fixed: {epochs: 3, model.text_encoder: tiny-bert, max_text_len: 16, max_train_rows: 64}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  optim.schedule: {type: categorical, choices: [constant, cosine, linear]}
  uda.mode: {type: categorical, choices: ["none", dynamic]}
  uda.n: {type: int, low: 1, high: 5, when: {uda.mode: dynamic}}
  optim.weight_decay: {type: float, low: 0.0, high: 0.1}
sampler: {learn_from: [old]}
scheduler: {name: asha, grace_epochs: 1}
budget: {trials: 3}
"""
TRIALS = [  # optim.lr, schedule, n, losses by epoch
    (1e-3, "linear", 3, (0.9, 0.5, 0.4)),
    (1e-2, "cosine", 8, (0.3, 0.3, 0.3)),
    (5e-2, "plateau", 1, (0.8,)),
    (1e-4, "cosine", 2, (0.7,)),
    (1e-3, "linear", 1, (None,)),
]


def make_old(storage, text=OLD, trials=TRIALS):
    spec = load_spec(text)
    folder = create_study(spec, storage=storage)
    objective = (spec.objectives[0].metric, spec.objectives[0].mode)
    ledger = Ledger(folder, objective=objective, params=param_kinds(spec.space), max_epochs=3)
    for number, (lr, schedule, n, losses) in enumerate(trials):
        name = records.trial_id(number)
        ledger.start(name, {"optim.lr": lr, "optim.schedule": schedule, "uda.n": n})
        for epoch, loss in enumerate(losses, start=1):
            ledger.add(name, {"epoch": epoch, "val_loss": loss, "device_seconds": 1.0})
        ledger.end(name, records.COMPLETE if len(losses) == 3 else records.PRUNED)
    ledger.close()
    return folder


@pytest.fixture
def old(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_old("studies")


def test_where_the_trials_of_another_study_lie_is_worked_out_by_hand(old):
    spec, (note,) = learn(load_spec(NEW))
    assert note == (
        "learns from old, 5 trials of text by rank: optim.lr, optim.schedule, uda.n; "
        "it says nothing of uda.mode, optim.weight_decay"
    )
    assert {(one.family, one.of, one.place["family#0"]) for one in spec.lessons} == {("text", 5, 0.0)}
    places = [{name: at for name, at in one.place.items() if name != "family#0"} for one in spec.lessons]
    assert [(one.trial, one.rank, there) for one, there in zip(spec.lessons, places, strict=True)] == [
        ("t0001", 1, {"optim.lr#0": 1.0, "optim.schedule#0": 1.0}),  # n is 8, beyond 5
        ("t0000", 2, {"optim.lr#0": pytest.approx(0.5), "optim.schedule#0": 2.0, "uda.n#0": 0.5}),
        ("t0003", 3, {"optim.lr#0": 0.0, "optim.schedule#0": 1.0, "uda.n#0": 0.25}),
        ("t0002", 4, {"uda.n#0": 0.0}),  # the rest is outside
        ("t0004", 5, {"optim.lr#0": pytest.approx(0.5), "optim.schedule#0": 2.0, "uda.n#0": 0.0}),
    ]


def test_what_was_learnt_is_kept_to_the_last_digit_when_the_other_study_is_gone(old, tmp_path):
    learnt, _ = learn(load_spec(NEW))
    folder = create_study(learnt, storage="studies")
    shutil.rmtree(old.root)
    folder = open_study(shutil.move(folder.root, tmp_path / "elsewhere"))
    spec = load_spec(folder.spec)
    again = with_lessons(folder, spec)
    assert again.lessons == learnt.lessons and len(again.lessons) == 5 and spec.lessons == ()


def test_a_replay_of_the_study_proposes_by_it(old):
    """The searcher hands it on: without it the same seeds give other proposals, with it the same ones each time."""
    text = NEW.replace("{type: categorical, choices: [text, fusion]}", "text")
    folder = create_study(learn(load_spec(text))[0], storage="studies")
    spec = load_spec(folder.spec)
    rng = random.Random(1)
    ledger = Ledger(folder, objective=("val_accuracy", "max"), params=param_kinds(spec.space), max_epochs=3)
    for number in range(30):
        lr, decay = 10 ** rng.uniform(-4, -2), rng.uniform(0, 0.1)
        params = {"optim.lr": lr, "optim.schedule": "linear", "uda.mode": "none", "optim.weight_decay": decay}
        name = records.trial_id(number)
        ledger.start(name, params)
        for epoch in (1, 2, 3):
            ledger.add(name, {"epoch": epoch, "val_accuracy": lr, "device_seconds": 1.0})
        ledger.end(name, records.COMPLETE)
    ledger.close()
    learnt, recordings = read_study(folder.root)
    assert len(learnt.lessons) == 5
    found = [simulate(spec, recordings, workers=1, seconds=20, trials=30).found for spec in (learnt, learnt, spec)]
    assert found[0] == found[1] != found[2]
    with pytest.raises(ValueError, match="'tpe' learns from no other study; give parzen or random"):
        with_setting(learnt, sampler="tpe", scheduler="asha", seed=1)


@pytest.mark.parametrize("damage", ["gone", "cut", "value"])
def test_a_study_whose_lessons_are_gone_says_so_and_does_not_go_on_otherwise(old, damage):
    folder = create_study(learn(load_spec(NEW))[0], storage="studies")
    if damage == "gone":
        folder.learnt.unlink()
    elif damage == "cut":
        folder.learnt.write_text("".join(folder.learnt.read_text().splitlines(keepends=True)[:-1]))
    else:
        folder.learnt.write_text(folder.learnt.read_text().replace(",2.0,", ",3.0,"))
    with pytest.raises(ValueError, match="learnt.csv: is missing or damaged; without it sampler.learn_from has"):
        with_lessons(folder, load_spec(folder.spec))


def test_a_study_is_looked_for_where_the_new_one_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_old("there")
    with pytest.raises(ValueError, match="sampler.learn_from: old: no such study folder"):
        learn(load_spec(NEW))
    assert len(learn(load_spec(NEW), "there")[0].lessons) == 5


def test_nothing_in_common_no_finished_trial_and_finalists_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_old("fresh", trials=[(1e-3, "linear", 1, ())])
    with pytest.raises(ValueError, match="sampler.learn_from: .*no trial has reported an epoch yet"):
        learn(load_spec(NEW.replace("[old]", "[fresh/old]")))
    make_old("studies")
    make_old("dead", trials=TRIALS[4:])
    with pytest.raises(ValueError, match="old: no trial of text has come to its first rung .epoch 1. yet"):
        learn(load_spec(NEW.replace("[old]", "[dead/old]")))
    lines = [
        line for line in NEW.splitlines(keepends=True) if not line.startswith(("  optim.lr", "  optim.sch", "  uda"))
    ]
    with pytest.raises(ValueError, match=r"old searches nothing that this study does .family, optim.weight_decay."):
        learn(load_spec("".join(lines)))
    again = (
        "study: again\nfamily: text\ndataset: openclipart\nfinalists: {a: {}, b: {optim.lr: 1.0e-3}}\nseeds: [2, 3]\n"
    )
    create_study(load_spec(again + "budget: {trials: 4}\n"), storage="studies")
    with pytest.raises(ValueError, match="again repeats finalists, it searches nothing"):
        learn(load_spec(NEW.replace("[old]", "[again]")))


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        (
            "{learn_from: [new]}",
            "sampler.learn_from[0] (line 11): 'new' is this study; of another so called give the path",
        ),
        ("{learn_from: [a, b, a]}", "sampler.learn_from[2] (line 11): 'a' is there already"),
        ("{learn_from: []}", "sampler.learn_from (line 11): "),
        ("{learn_from: old}", "sampler.learn_from (line 11): is 'old'; a list is expected"),
        ("{learn_from: [1]}", "sampler.learn_from[0] (line 11): is 1; a string is expected"),
        (
            "{name: tpe, learn_from: [old]}",
            "'tpe' learns from no other study; give parzen or random, or take learn_from",
        ),
    ],
)
def test_what_is_wrong_with_it_is_one_line(sampler, said):
    with pytest.raises(SpecError) as caught:
        load_spec(NEW.replace("{learn_from: [old]}", sampler))
    assert said in str(caught.value) and "has 1 problem" in str(caught.value)

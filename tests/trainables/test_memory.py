"""Memory of a trial against tensors whose size is known, and against itself in another place."""

import time

import pytest
import torch

from trainables.memory import PeakMemory, release

MIB = 2**20
CPU = torch.device("cpu")


@pytest.mark.slow
def test_the_peak_is_that_of_what_was_allocated_since():
    kept = torch.ones(300 * MIB, dtype=torch.uint8)
    memory = PeakMemory(CPU)
    del kept
    kept = torch.ones(300 * MIB, dtype=torch.uint8)  # in the place of the first
    extra = torch.ones(80 * MIB, dtype=torch.uint8)
    time.sleep(0.1)  # a thread looks now and then
    del extra
    assert memory.gib * 1024 == pytest.approx(80, abs=3)
    extra = torch.ones(50 * MIB, dtype=torch.uint8)
    with memory.left_out():
        large, stays = (torch.ones(200 * MIB, dtype=torch.uint8) for _ in range(2))
        time.sleep(0.1)
        del large
    more = torch.ones(100 * MIB, dtype=torch.uint8)
    time.sleep(0.1)
    del extra
    assert memory.gib * 1024 == pytest.approx(150, abs=3)
    assert memory.reserved_gib == 0 and len(kept) and len(stays) and len(more)


@pytest.mark.slow
def test_a_failure_leaves_no_model_behind():
    def fail():
        held = torch.ones(200 * MIB, dtype=torch.uint8)
        try:
            raise ValueError(str(held.shape))
        except ValueError as error:
            kept = error  # the frame holds the error, and its traceback the frame
        return len(str(kept))

    memory = PeakMemory(CPU)
    fail()
    release(CPU, is_thorough=True)
    other = torch.ones(200 * MIB, dtype=torch.uint8)
    assert memory.gib * 1024 == pytest.approx(200, abs=5) and len(other)


@pytest.mark.slow
def test_a_trial_takes_the_same_memory_whatever_ran_before(toy, in_new_processes, tmp_path):
    free = {"lock_text": False, "lock_image": False}
    configs = {
        "tiny": toy("fusion", epochs=1),
        "small": toy("fusion", epochs=1, model={"hidden": 1500, "depth": 2, **free}),
        "large": toy("fusion", epochs=1, model={"hidden": 5000, "depth": 2}),
    }

    def rows(*names):
        folders = [str(tmp_path / f"{names[0]}-{at}") for at in range(len(names))]
        jobs = [{"config": configs[name].to_dict(), "folder": at} for name, at in zip(names, folders, strict=True)]
        return [out["rows"][0] for out in in_new_processes(jobs)[0]]

    large, *after = rows("large", "tiny", "small", "large")
    alone = [rows("tiny")[0], rows("small")[0], large]
    mib = [[row["peak_memory_gib"] * 1024 for row in each] for each in (after, alone)]
    assert mib[0] == pytest.approx(mib[1], rel=0.05, abs=8)  # the first large product of a process takes 6 on some CPUs
    at_least = 16 * large["num_trainable"] / MIB  # weights, gradients and AdamW's two moments
    assert at_least < mib[0][-1] < 1.3 * at_least


@pytest.mark.slow
def test_how_the_heap_came_to_look_makes_no_difference(toy, in_new_processes, tmp_path):
    """The pages of the process were a third more for a convolution that ran before a large one than behind it."""
    small = toy("image", model={"lock_image": False}, image_size=256, batch_size=15, epochs=3).to_dict()
    large = toy("image", model={"lock_image": False}, image_size=512, batch_size=45, epochs=1).to_dict()
    jobs = [{"config": config, "folder": str(tmp_path / str(at))} for at, config in enumerate([small, large, small])]
    first, between, behind = (
        max(row["peak_memory_gib"] for row in out["rows"]) * 1024 for out in in_new_processes(jobs)[0]
    )
    inputs = 15 * 16 * 128 * 128 * 4 / MIB  # the first layer's output alone, which norm and activation keep twice more
    assert behind == pytest.approx(first, rel=0.05) and between > 4 * first > 4 * 3 * inputs


@pytest.mark.slow
def test_what_was_left_out_never_comes_back():
    memory = PeakMemory(CPU)
    for _ in range(20):
        with memory.left_out():
            large = torch.ones(64 * MIB, dtype=torch.uint8)
            time.sleep(0.002)
            del large
        time.sleep(0.003)  # a look that began in the block
    assert memory.gib * 1024 < 4

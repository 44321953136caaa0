import copy

import numpy as np
import torch

from trainables.batch import Batch
from trainables.encoders.image import load_image_encoder
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port, encode

IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
PIXELS = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_encode_gives_what_the_input_asks_for():
    encoder = load_image_encoder("tiny-vit")
    batch = Batch(pixel_values=PIXELS, labels=torch.zeros(2), ids=["a", "b"])
    tokens, pooled = encoder(PIXELS)
    outs = {
        output: encode(encoder, batch, modality="image", input=Input("tiny-vit", is_locked=True, output=output))
        for output in ("pooled", "tokens", "pooled+tokens")
    }
    assert outs["pooled"].equal(pooled) and outs["tokens"].equal(tokens)
    assert outs["pooled+tokens"].equal(torch.cat([pooled[:, None], tokens], dim=1))
    few = encode(encoder, batch, modality="image", input=Input("tiny-vit", True, "pooled+tokens", num_tokens=1))
    torch.testing.assert_close(few[:, 1], tokens.mean(dim=1))


def test_a_locked_port_stays_in_eval_mode_and_has_no_gradient():
    encoder = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5))
    other = copy.deepcopy(encoder)
    port = Port(modality="image", input=Input("x", is_locked=True), width=3, encoder=encoder).train()
    assert port.training and not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in port.parameters())
    free = Port(modality="image", input=Input("x", is_locked=False), width=3, encoder=other).train()
    assert all(module.training for module in free.modules())


def test_cached_features_replace_the_encoder():
    port = Port(modality="image", input=Input("x", is_locked=True), width=2, encoder=None)
    features = torch.from_numpy(np.array([[1.5, 2.5]], np.float16))
    out = port(Batch(image_features=features, labels=torch.zeros(1), ids=["a"]))
    assert out.dtype == torch.float32 and out.tolist() == [[1.5, 2.5]]

"""How large a configuration's model is, found by building it without its data."""

from __future__ import annotations

from torch import nn

from trainables.config import TrialConfig
from trainables.data.loader import load_target
from trainables.encoders import Port, load_encoder, load_text_config
from trainables.families import family_module


def model_size(config: TrialConfig) -> tuple[int, int]:
    """Parameters of the model, locked encoders included, and how many of them train.

    Raises:
        ValueError: an encoder that cannot be loaded.
    """
    family = family_module(config.family)
    ports: dict[str, Port] = {}
    locked = 0
    for modality, input in family.inputs(config.model).items():
        encoder: nn.Module | None = None
        if input.output == "ids":
            width = load_text_config(input.encoder).hidden_size
        else:
            encoder = load_encoder(modality, input, image_size=config.image_size)
            width = encoder.width
            if input.is_locked:
                locked += sum(parameter.numel() for parameter in encoder.parameters())
                encoder = None
        ports[modality] = Port(modality=modality, input=input, width=width, encoder=encoder)
    model = family.build(config.model, load_target(config).task, ports)
    total = sum(parameter.numel() for parameter in model.parameters())
    return total + locked, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

"""How a picture becomes square: what a config, a cache's key and the command line may say. Standard library only."""

from __future__ import annotations

from typing import Literal

ImageFit = Literal["crop", "pad", "stretch"]

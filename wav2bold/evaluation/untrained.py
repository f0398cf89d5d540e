"""An encoder that knows nothing: the same architecture with random weights."""

from dataclasses import replace
from typing import Any

import torch

from wav2bold.trainables.encoder import Encoder, digest_of


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """The encoder's architecture as transformers begins it before any training; on the same device."""
    architecture: Any = type(encoder.model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture(encoder.model.config)
    model.train(False).requires_grad_(False)
    digest = digest_of(model, encoder.extractor)
    torch.nn.Module.to(model, encoder.device)
    return replace(encoder, name=f"{encoder.name}, random weights", model=model, digest=digest)

"""How a configuration has windows heard: each by itself, or in stretches."""

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows
from wav2bold.errors import EncoderError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.families import takes_mask
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.stretches import StretchedHearing

AnyHearing = Hearing | StretchedHearing
"""They do the same; Stage 2, evaluation and reports don't ask which one they have."""


def hearing_of(
    encoder: Encoder,
    shards: Shards,
    store: ActivationStore,
    windows: Windows,
    configuration: Configuration,
    boundary: Boundary,
) -> AnyHearing:
    """How these windows are heard. Raises EncoderError where the encoder takes no mask."""
    if configuration.context == "window":
        return Hearing(
            encoder,
            shards,
            store,
            windows,
            configuration.history,
            boundary,
            configuration.pooling,
            configuration.layers,
        )
    if not takes_mask(encoder.model):
        raise EncoderError(
            f"context: stretch hides what comes later with a mask, and {encoder.name}, a WavLM, takes none",
            "set context: window",
        )
    return StretchedHearing(
        encoder, shards, store, windows, configuration.history, boundary, configuration.stretch_s
    )

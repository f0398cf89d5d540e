"""How much a configuration trains, counted before anything is trained."""

from wav2bold.config import Configuration
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.reading import states_read, trained_whole
from wav2bold.trainables.unfreezing import adapted_modules


def trained_count(encoder: Encoder, configuration: Configuration) -> int | None:
    """How many numbers of the encoder stage 2 trains, adapters among them.

    None for a configuration that the encoder can't be refined with: its trial will tell why.
    """
    try:
        names = trained_whole(encoder, configuration)
        count = sum(encoder.model.get_parameter(name).numel() for name in names)
        lora = configuration.lora
        if lora is not None:
            top = states_read(encoder, configuration.layers)[-1]
            for path in adapted_modules(encoder, lora, top):
                count += lora.rank * sum(encoder.model.get_parameter(f"{path}.weight").shape)
    except EncoderError:
        return None
    return count

"""Which hidden states the head reads, and which parameters can change them."""

from collections.abc import Iterable

from wav2bold.config import Configuration, HiddenStates, LayerRange
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.families import norm_is_last
from wav2bold.trainables.parameter_types import boundary_of, parameter_type, unfrozen_names


def states_read(encoder: Encoder, layers: HiddenStates) -> tuple[int, ...]:
    """Numbers of the hidden states that `Configuration.layers` names, rising.

    0 is the input of the first transformer layer; the number of layers is the encoder's output.
    Raises EncoderError if the encoder has no such state.
    """
    if layers is None:
        return (encoder.layers,)
    if layers == "weighted":
        return tuple(range(encoder.layers + 1))
    if layers[-1] > encoder.layers:
        raise EncoderError(
            f"layers: there is no hidden state {layers[-1]} in {encoder.name}",
            f"its last is {encoder.layers}",
        )
    return layers


def trained_whole(encoder: Encoder, configuration: Configuration) -> list[str]:
    """Names of the parameters of the unfrozen types that can change what the head reads.

    Raises EncoderError as `unfrozen_names` and `states_read`, and for a type that is asked for above that.
    """
    top = states_read(encoder, configuration.layers)[-1]
    names = [
        name for name in unfrozen_names(encoder, configuration.unfrozen) if _is_below(encoder, name, top)
    ]
    reached = {parameter_type(name)[0] for name in names}
    for kind, span in configuration.unfrozen.items():
        refuse_above(encoder, f"unfrozen.{kind}", span, top)
        if kind not in reached:
            raise _all_above(f"unfrozen.{kind}", top)
    return names


def refuse_above(encoder: Encoder, option: str, span: LayerRange | None, top: int) -> None:
    """Raise EncoderError, naming the option, if a range of layers leaves those below hidden state `top`."""
    if span is not None and span[0] >= top:
        raise _all_above(option, top)
    if span is not None and span[1] >= top:
        raise EncoderError(
            f"{option}: layer {span[1]} lies above hidden state {top}, the highest that the head reads",
            f"end at layer {top - 1}, or let `layers` name {min(span[1] + 1, encoder.layers)}",
        )


def _all_above(option: str, top: int) -> EncoderError:
    return EncoderError(
        f"{option}: lies above hidden state {top}, the highest that the head reads",
        "leave it out, or let `layers` name a higher one",
    )


def boundary_below(encoder: Encoder, names: Iterable[str], layers: HiddenStates) -> Boundary:
    """The highest boundary below every parameter that is named, and not above what the head reads."""
    top = states_read(encoder, layers)[-1]
    boundary = boundary_of(encoder, names)
    return Boundary("layer", min(boundary.layer, top)) if boundary.at == "layer" else boundary


def _is_below(encoder: Encoder, name: str, top: int) -> bool:
    """Whether hidden state `top` depends on a parameter."""
    _, layer = parameter_type(name)
    if name.startswith("encoder.layer_norm") and norm_is_last(encoder.model):
        return top == encoder.layers  # the norm is part of the last state
    return layer is None or layer < top

"""Names of parameters: their type, their layer, which of them stage 2 trains, and what lies below those."""

from collections.abc import Iterable, Mapping

from wav2bold.config import BELOW_LAYERS, PARAMETER_TYPES, LayerRange, ParameterType
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.families import UNUSED, norm_is_last


def parameter_type(name: str) -> tuple[ParameterType, int | None]:
    """Type and transformer layer of a parameter, by its name in the model; layer None below them.

    The convolutions are one type with their norms and biases. Elsewhere a norm's weight and bias
    are `layer_norm`, any other bias is `bias`, and a matrix is named after its place; WavLM's relative
    positions belong to `attention`, where they are used, and an adapter inside a layer to `feed_forward`,
    which it follows. Every parameter has exactly one type.
    Raises EncoderError for a name that no family has.
    """
    parts = name.split(".")
    layer = int(parts[2]) if name.startswith("encoder.layers.") else None
    if parts[0] == "feature_extractor":
        return "conv", None
    if len(parts) > 1 and parts[-2].endswith("norm"):
        return "layer_norm", layer
    if parts[-1] == "bias":
        return "bias", layer
    if parts[0] == UNUSED or parts[0] == "feature_projection":
        return "projection", None
    if "pos_conv_embed" in parts:
        return "positional", None
    if "attention" in parts:
        return "attention", layer
    if "feed_forward" in parts or "adapter_layer" in parts:
        return "feed_forward", layer
    raise EncoderError(f"parameter {name} is of no known type", "give an encoder of a known family")


def unfrozen_names(encoder: Encoder, unfrozen: Mapping[ParameterType, LayerRange | None]) -> list[str]:
    """Names of the parameters that stage 2 trains.

    A type without a range is unfrozen everywhere; with one, only in those transformer layers.
    Raises EncoderError if the encoder lacks a type, or if a range leaves the encoder or is given to a type
    that has no layers.
    """
    for kind, layers in unfrozen.items():
        if layers is not None and kind in BELOW_LAYERS:
            raise EncoderError(f"unfrozen.{kind} lies below the layers", "write null in place of its range")
        refuse_other_layers(encoder, f"unfrozen.{kind}", layers)
    types = {name: parameter_type(name) for name, _ in encoder.model.named_parameters() if name != UNUSED}
    there = {kind for kind, _ in types.values()}
    for kind in unfrozen:
        if kind not in there:
            known = ", ".join(one for one in PARAMETER_TYPES if one in there)
            raise EncoderError(f"unfrozen.{kind}: {encoder.name} has no such parameters", f"it has {known}")
    names = []
    for name, (kind, layer) in types.items():
        layers = unfrozen.get(kind)
        if kind in unfrozen and (layers is None or (layer is not None and layers[0] <= layer <= layers[1])):
            names.append(name)
    return names


def refuse_other_layers(encoder: Encoder, option: str, layers: LayerRange | None) -> None:
    """Raise EncoderError, naming the option, if a range leaves the encoder."""
    last = encoder.layers - 1
    if layers is not None and layers[1] > last:
        raise EncoderError(
            f"{option}: there is no layer {layers[1]} in {encoder.name}", f"its last layer is {last}"
        )


def boundary_of(encoder: Encoder, unfrozen: Iterable[str]) -> Boundary:
    """The highest boundary below every unfrozen parameter."""
    audio, conv = -2, -1
    lowest = encoder.layers
    for name in unfrozen:
        kind, layer = parameter_type(name)
        if kind == "conv":
            lowest = audio
        elif layer is not None:
            lowest = min(lowest, layer)
        elif name.startswith("encoder.layer_norm") and norm_is_last(encoder.model):
            lowest = min(lowest, encoder.layers - 1)  # there it follows the last layer
        else:
            lowest = min(lowest, conv)
    if lowest == audio:
        return Boundary("audio")
    return Boundary("conv") if lowest == conv else Boundary("layer", lowest)

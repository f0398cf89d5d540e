"""The copy of an encoder that stage 2 trains: whole parameters by type, low-rank adapters, or both."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import Wav2Vec2Model, WavLMModel

from wav2bold.config import AdaptedType, Configuration, Lora
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.families import SpeechModel, attended, attentions
from wav2bold.trainables.parameter_types import refuse_other_layers
from wav2bold.trainables.reading import boundary_below, refuse_above, states_read, trained_whole

MATRICES: dict[AdaptedType, tuple[str, ...]] = {
    "attention": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "feed_forward": ("intermediate_dense", "output_dense"),
}
"""Modules of a transformer layer that LoRA adapts. WavLM's gate of relative positions is too small for it."""

READS_WEIGHTS = "torch_multi_head_self_attention"
"""WavLM's method that doesn't hear adapters: `attended` stands in for it as long as there are any."""


@dataclass(frozen=True)
class Unfrozen:
    """What stage 2 trains.

    model: a copy of the encoder's, in which the unfrozen parameters, and no others, require gradient.
    names: theirs in that copy.  boundary: the highest below all of them.
    """

    model: SpeechModel
    names: tuple[str, ...]
    boundary: Boundary


def unfreeze(encoder: Encoder, configuration: Configuration, seed: int = 0) -> Unfrozen:
    """A copy of the encoder with the configuration's types unfrozen and its adapters added.

    seed: of the adapters' first factors; the second are zero, so that the copy hears as the encoder does.
    Raises EncoderError as `lowest_boundary`.
    """
    boundary = lowest_boundary(encoder, configuration)
    model = copy.deepcopy(encoder.model).requires_grad_(False)
    chosen = set(trained_whole(encoder, configuration))
    whole = [parameter for name, parameter in model.named_parameters() if name in chosen]
    if configuration.lora is not None:
        top = states_read(encoder, configuration.layers)[-1]
        _add_adapters(model, configuration.lora, adapted_modules(encoder, configuration.lora, top), seed)
    for parameter in whole:  # peft freezes all but its own
        parameter.requires_grad_(True)
    names = tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return Unfrozen(model, names, boundary)


def lowest_boundary(encoder: Encoder, configuration: Configuration) -> Boundary:
    """The highest boundary below everything that the configuration trains and not above what the head reads.

    Raises EncoderError if it asks for a type, a layer, a hidden state or a rank that the encoder doesn't
    have, or to train what lies above all that is read; or if it continues a pre-training that can't be.
    """
    if configuration.objective == "pretrain" and not isinstance(encoder.model, Wav2Vec2Model):
        raise EncoderError(
            f"objective: pretrain continues wav2vec2's contrastive loss, and {encoder.name} is of the family "
            f"{encoder.model.config.model_type}, whose targets of pre-training were not published",
            "give a wav2vec2 as encoder, or set objective: brain",
        )
    return boundary_below(encoder, changed_by(encoder, configuration), configuration.layers)


def changed_by(encoder: Encoder, configuration: Configuration) -> list[str]:
    """Names of the encoder's parameters that a refinement changes: trained whole, or adapted.

    Raises EncoderError as `lowest_boundary`.
    """
    names = trained_whole(encoder, configuration)
    if configuration.lora is not None:
        top = states_read(encoder, configuration.layers)[-1]
        names += [f"{path}.weight" for path in adapted_modules(encoder, configuration.lora, top)]
    return names


def adapted_modules(encoder: Encoder, lora: Lora, top: int) -> list[str]:
    """Names of the linear modules that adapters are added to. top: the highest hidden state that is read.

    Raises EncoderError if its layers leave the encoder or lie above that, or if a matrix has no such rank.
    """
    refuse_other_layers(encoder, "lora.layers", lora.layers)
    refuse_above(encoder, "lora.layers", lora.layers or (0, max(top - 1, 0)), top)
    wanted = {matrix for kind in lora.targets for matrix in MATRICES[kind]}
    first, last = lora.layers or (0, top - 1)
    names = []
    for name, module in encoder.model.named_modules():
        place, _, matrix = name.rpartition(".")
        if not place.startswith("encoder.layers.") or matrix not in wanted:
            continue
        if first <= int(name.split(".")[2]) <= last:
            names.append(name)
            highest = min(module.weight.shape)
            if lora.rank > highest:
                raise EncoderError(
                    f"lora.rank: {name} of {encoder.name} has no rank of {lora.rank}",
                    f"give {highest} or less; a few are usual",
                )
    return names


def _add_adapters(model: SpeechModel, lora: Lora, modules: list[str], seed: int) -> None:
    """Put peft's adapters onto these modules, in place."""
    from peft import LoraConfig, inject_adapter_in_model

    options = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=modules, lora_dropout=0.0, bias="none"
    )
    with torch.random.fork_rng(devices=[]):  # peft draws on the processor, whatever the device
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(options, model)
    model.train(False)
    if isinstance(model, WavLMModel):
        for attention in attentions(model):
            vars(attention)[READS_WEIGHTS] = partial(attended, attention)


def trained_parameters(model: SpeechModel) -> dict[str, Tensor]:
    """The values of those parameters that stage 2 trains, by name; they go on changing with the model."""
    return {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}


def put(model: SpeechModel, parameters: Mapping[str, Tensor]) -> None:
    """Give a model's parameters these values, by name, in place."""
    with torch.no_grad():
        for name, value in parameters.items():
            model.get_parameter(name).copy_(value)


def merged(model: SpeechModel, parameters: Mapping[str, Tensor] | None = None) -> SpeechModel:
    """A copy of a trained model with its adapters, if any, folded into its weights.

    It has the pretrained model's parameters, by the same names, and needs no peft.
    parameters: what `trained_parameters` gave at another time, to take in place of the model's own.
    """
    plain = copy.deepcopy(model)
    put(plain, parameters or {})
    if not hasattr(plain, "peft_config"):
        return plain
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
        vars(module).pop(READS_WEIGHTS, None)
    del plain.peft_config
    return plain

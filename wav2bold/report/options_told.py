"""What the methods section says of the study file's options of training, of targets and of the search."""

from collections.abc import Mapping
from typing import Any

from wav2bold.config import Configuration, IntRange, LogRange, Study
from wav2bold.pages.words import count, listed

CHOICES = {"pooling": "how frames are brought to TRs", "layers": "hidden states that are read"}
"""Options that a sweep may choose among, each null where it doesn't."""
RATES = {
    "head_l2": "penalty on the head",
    "head_lr": "head's learning rate",
    "anchor_l2": "penalty on the distance from the pretrained weights",
    "weight_decay": "weight decay",
}
"""Options that a sweep may vary on a logarithmic scale."""


def heard(chosen: Configuration) -> str:
    """What the encoder hears for a volume, where that is not its own window; else empty."""
    if chosen.context == "window":
        return ""
    return (
        f"The encoder heard {chosen.stretch_s:g} s at once, for all volumes in it, each of which sees only "
        "what came before."
    )


def stage1(first: Configuration) -> str:
    """How stage 1 comes to the head beside solving for it; else empty."""
    if first.stage1 == "ridge":
        return ""
    return ", from which Adam then descends to the same minimum step by step"


def trained(first: Configuration) -> str:
    """What of the encoder stage 2 trains."""
    if first.lora is None:
        return "the chosen parameter types of the encoder"
    rank, alpha = first.lora.rank, first.lora.alpha
    adapted = listed([kind.replace("_", "-") for kind in first.lora.targets])
    source = "Hu et al., arXiv 2106.09685"
    adapters = f"low-rank adapters ({source}; rank {rank}, alpha {alpha}) on its {adapted} matrices"
    return f"{adapters} and the chosen parameter types of the encoder" if first.unfrozen else adapters


def training(chosen: Configuration) -> str:
    """How long stage 2 is, and its schedule."""
    return (
        f"at most {count(chosen.epochs, 'epoch')} in batches of {count(chosen.batch, 'window')}, linear "
        f"warm-up over {count(chosen.warmup_steps, 'step')}, cosine decay, gradients clipped at a norm of "
        f"{chosen.clip:g}"
    )


def beside(chosen: Configuration) -> str:
    """What else shapes stage 2, as a sentence that begins with a space; empty where nothing does."""
    brain = chosen.objective == "brain"
    said = [
        f"noise of {chosen.input_noise:g} times each feature's spread is added where the trained part begins"
        if chosen.input_noise and brain
        else "",
        "each target counts by the square of its noise ceiling"
        if chosen.weight_by_ceiling and chosen.loss == "mse" and brain
        else "",
        f"the squared distance from the pretrained weights is penalised by {chosen.anchor_l2:g}"
        if chosen.anchor_l2
        else "",
        f"the encoder's weights decay by {chosen.weight_decay:g}" if chosen.weight_decay else "",
        f"stage 2 ends after {count(chosen.patience, 'epoch')} without a better score"
        if chosen.patience is not None and brain
        else "",
    ]
    told = "; ".join(filter(None, said))
    return f" {told[0].upper()}{told[1:]}." if told else ""


def space(study: Study) -> str:
    """What the sweep varied, with ranges; what is fixed is not named."""
    varied = study.search.space
    said = [f"history ({varied.history.low} to {varied.history.high} TRs)"] if _varies(varied.history) else []
    for option, name in CHOICES.items():
        choices = getattr(varied, option)
        if choices is not None and len(choices) > 1:
            said.append(f"{name} ({len(choices)} ways)")
    if varied.unfrozen:
        said.append(f"parameter types to refine (any of {len(varied.unfrozen)})")
    if varied.ranges != "own" and (
        varied.unfrozen or study.configuration.unfrozen or study.configuration.lora
    ):
        said.append("their layers")
    if _varies(varied.lora_rank):
        said.append(f"the adapters' rank ({_ends(varied.lora_rank)})")
    if _varies(study.encoder_rates):
        said.append(f"the encoder's learning rate ({_ends(study.encoder_rates)})")
    for option, name in RATES.items():
        some = getattr(varied, option)
        if _varies(some):
            said.append(f"the {name} ({_ends(some)})")
    if _varies(varied.epochs):
        said.append(f"epochs ({_ends(varied.epochs)})")
    return listed(said) or "a single configuration"


def targets(options: Mapping[str, Any]) -> str:
    """What the shards' targets are, where they are not all that vary; begins with a comma."""
    regions, ceiling = options.get("parcellation"), options.get("min_ceiling")
    said = ""
    if regions:
        said += ", means of regions" if options.get("average", True) else ", those in named regions"
    if ceiling:
        said += f", those whose noise ceiling is {ceiling:g} or more"
    return said


def _varies(some: IntRange | LogRange | None) -> bool:
    return some is not None and some.low < some.high


def _ends(some: IntRange | LogRange | None) -> str:
    assert some is not None
    return f"{some.low:g} to {some.high:g}"

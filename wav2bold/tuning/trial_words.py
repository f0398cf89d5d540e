"""What a trial refined and how it ended, in words."""

from collections.abc import Mapping

from wav2bold.config import Configuration, ParameterType
from wav2bold.pages.words import count, listed
from wav2bold.tuning.remembered import Trial

KINDS: Mapping[ParameterType, str] = {
    "conv": "convolutions",
    "projection": "feature projection",
    "positional": "positional convolution",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "layer_norm": "layer norms",
    "bias": "biases",
}
STATES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted", "RUNNING": "running"}


def unfrozen(chosen: Configuration) -> str:
    """The parameter types that are trained, whole or by adapters."""
    parts = [KINDS[kind] for kind in chosen.unfrozen]
    if chosen.lora is not None:
        adapted = listed([KINDS[kind] for kind in chosen.lora.targets])
        parts.append(f"adapters of rank {chosen.lora.rank} on {adapted}")
    return listed(parts) or "head alone"


def layers(chosen: Configuration) -> str:
    """Which layers of them; `layers 1 to 3` for each type by itself where they differ."""
    ranges = {
        KINDS[kind]: span
        for kind, span in chosen.unfrozen.items()
        if kind not in ("conv", "projection", "positional")
    }
    if chosen.lora is not None:
        ranges["adapters"] = chosen.lora.layers
    if not ranges:
        return "\N{EN DASH}"
    words = {part: "all layers" if span is None else _span(*span) for part, span in ranges.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{part}: {span}" for part, span in words.items())


def status(trial: Trial) -> str:
    """How a trial ended, in words."""
    if trial.reduce is not None:
        if trial.status != "FINISHED" or not trial.stopped:
            return STATES.get(trial.status, trial.status.lower())
        return f"stopped after {len(trial.subject_scores)} of {count(len(trial.subjects), 'subject')}"
    planned = trial.configuration.epochs if trial.configuration.refines else 0
    if trial.status == "FINISHED" and len(trial.scores) == 1 <= planned:
        return "stopped after stage 1"
    if trial.status == "FINISHED" and len(trial.scores) <= planned:
        return f"stopped early ({len(trial.scores) - 1} of {planned})"
    return STATES.get(trial.status, trial.status.lower())


def _span(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"

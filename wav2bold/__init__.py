"""Refine speech models on fMRI of people who hear speech."""

from wav2bold.config import Cleaning, Configuration, Search, Simulation, Split, Study, Targets
from wav2bold.steps import (
    best,
    compare,
    inspect,
    manifest,
    prepare,
    ranked,
    refine,
    register,
    report,
    runs,
    score,
    score_beyond,
    simulate,
    sweep,
)

__all__ = [
    "Cleaning",
    "Configuration",
    "Search",
    "Simulation",
    "Split",
    "Study",
    "Targets",
    "best",
    "compare",
    "inspect",
    "manifest",
    "prepare",
    "ranked",
    "refine",
    "register",
    "report",
    "runs",
    "score",
    "score_beyond",
    "simulate",
    "sweep",
]

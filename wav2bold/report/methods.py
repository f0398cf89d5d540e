"""What the report's methods section needs to know; its sentences are in page.html."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from wav2bold.config import (
    Configuration,
    HiddenStates,
    LossKind,
    Pooling,
    Reduction,
    Sampler,
    SecondGoal,
    Stopping,
    Study,
)
from wav2bold.evaluation import intervals, significance
from wav2bold.pages.words import count, listed, span
from wav2bold.report import options_told as told
from wav2bold.report.findings import Findings
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.noise import ORDER
from wav2bold.tuning.goals import second_goal
from wav2bold.tuning.stopping import stopping_of

READ: dict[Pooling, str] = {
    "tr": "averaged to TRs",
    "mean": "averaged over the history",
    "last": "averaged over the history's last TR",
    "lanczos": "brought to TRs by a Lanczos kernel of three lobes, cut off at the volume's own time",
}
"""What was done to hidden states before the head, by `configuration.pooling`."""
LOSSES: dict[LossKind, str] = {
    "mse": "the mean squared error",
    "corr": "one minus the correlation across targets within each volume",
    "cosine": "one minus the cosine across targets within each volume",
}
OPTIMISERS = {"adamw": "AdamW [4]", "muon": "Muon for matrices and AdamW [4] for the rest"}
PROPOSED: dict[Sampler, str] = {
    "tpe": "with a tree-structured Parzen estimator",
    "gp": "with a Gaussian process",
    "cmaes": "with the covariance matrix adaptation evolution strategy",
    "random": "at random",
    "nsgaii": "with the genetic algorithm NSGA-II, towards a high score and",
}
LITTLE: dict[SecondGoal, str] = {
    "trained_parameters": "few trained parameters",
    "drift": "little change of the trained parameters",
}
"""What `nsgaii` goes towards beside a high score."""
APART: dict[Reduction, str] = {"mean": "mean", "median": "median", "min": "lowest"}
STOPPED: dict[Stopping, str | None] = {
    "asha": "successive halving [7] stopped the poor ones",
    "median": "those below the median of earlier ones were stopped",
    "none": None,
}
"""What ended poor trials early; None where nothing did."""
PAPERS = (
    "objective",
    "history",
    "pooling",
    "layers",
    "unfrozen",
    "lora",
    "head",
    "head_l2",
    "head_rank",
    "loss",
    "optimiser",
    "input_noise",
)
"""Options in which the first trial must be as given, to be called the paper's."""
SOFTWARE = ("wav2bold", "torch", "transformers", "nilearn", "ray", "optuna", "mlflow")


def methods(findings: Findings) -> dict[str, Any]:
    """Facts by name, in words, from the study, the card and the findings."""
    study, card, stories = findings.study, findings.card, findings.stories
    names = list(findings.best) or list(findings.winner.subjects) or list(card.subjects)
    blocks = sorted({one.gain_ridge.blocks for one in findings.best.values()})
    taken = bool(card.cleaning.get("detrend") or card.cleaning.get("high_pass_s"))
    return {
        "subjects": count(len(names), "subject"),
        "targets": span(card.subjects[name].targets for name in names),
        "kind": told.targets(card.targets),
        "minutes": f"{sum(one.seconds for one in card.stories.values()) / 60:.0f} min",
        "space": card.space,
        "tr": f"{card.tr_s:g} s",
        "stories": count(len(card.stories), "story"),
        "cleaning": _cleaning(card.cleaning),
        "drift": taken,
        "train": f"{len(stories.train)} to train ({listed(stories.train)})",
        "validation": f"{len(stories.validation)} to choose ({listed(stories.validation)})",
        "test": f"{len(stories.test)} to test ({listed(stories.test)})",
        "encoder": encoder_name(study.encoder),
        "hidden": _hidden(_chosen(findings, "layers")),
        "read": READ[_chosen(findings, "pooling")],
        "kernel": study.configuration.conv_kernel if study.configuration.head == "conv_linear" else None,
        "shared": study.configuration.head == "shared",
        "rank": study.configuration.head_rank,
        "heard": told.heard(study.configuration),
        "chosen_history": f"{count(findings.winner.configuration.history, 'TR')}",
        "stage1": told.stage1(study.configuration),
        "stage2_trains": told.trained(study.configuration),
        "training": told.training(_with_chosen(findings)),
        "beside": told.beside(_with_chosen(findings)),
        "pretrain": study.configuration.objective == "pretrain",
        "loss": LOSSES[study.configuration.loss],
        "optimiser": OPTIMISERS[study.configuration.optimiser],
        "noise": ORDER if study.configuration.noise == "ar" else None,
        "alphas": f"{len(ALPHAS)} values from {ALPHAS[0]:,.0f} to {ALPHAS[-1]:,.0f}",
        "trials": count(len(findings.trials), "configuration"),
        "apart": None if study.search.objective is None else APART[study.search.objective.reduce],
        "proposed": _proposed(study),
        "stopped": STOPPED[stopping_of(study)],
        "varied": told.space(study),
        "papers": _is_papers(study.configuration),
        "blocks": listed([str(number) for number in blocks]),
        "block": f"{significance.PAIRED_BLOCK_S:g} s",
        "drawn": f"{intervals.BLOCK_S:g} s",
        "exchanged": f"{significance.BLOCK_S:g} s",
        "permutations": f"{significance.PERMUTATIONS:,}",
        "averaged": _averaged(findings),
        "from_others": _from_others(findings),
        "software": listed([f"{name} {_version(name)}" for name in _software(study.configuration)]),
        "seed": study.seed,
    }


def _proposed(study: Study) -> str:
    """How configurations were proposed."""
    how = PROPOSED[study.search.sampler]
    return f"{how} {LITTLE[second_goal(study)]}" if study.search.sampler == "nsgaii" else how


def _software(first: Configuration) -> tuple[str, ...]:
    """What took part: peft where there are adapters, which all trials then have."""
    return SOFTWARE if first.lora is None else (*SOFTWARE, "peft")


def encoder_name(encoder: str) -> str:
    """The hub name, or a folder's own name: where it lies on somebody's machine is nobody's business."""
    return Path(encoder).name if Path(encoder).is_absolute() else encoder


def _is_papers(first: Configuration) -> bool:
    """Whether the first trial hears, refines and penalises as the paper: its values are the defaults."""
    given = Configuration()
    return all(getattr(first, option) == getattr(given, option) for option in PAPERS)


def _chosen(
    findings: Findings, option: Literal["layers", "pooling", "epochs", "anchor_l2", "weight_decay"]
) -> Any:
    """An option of all trials, or of the best where the space varies it."""
    varied = getattr(findings.study.search.space, option) is not None
    return getattr(findings.winner.configuration if varied else findings.study.configuration, option)


def _with_chosen(findings: Findings) -> Configuration:
    """The study's configuration, with what its space varies of training as the best has it."""
    return findings.study.configuration.model_copy(
        update={
            "epochs": _chosen(findings, "epochs"),
            "anchor_l2": _chosen(findings, "anchor_l2"),
            "weight_decay": _chosen(findings, "weight_decay"),
        }
    )


def _hidden(layers: HiddenStates) -> str:
    """Which hidden states the head read."""
    if layers is None:
        return "its last hidden states"
    if layers == "weighted":
        return "the sum of all its hidden states, weighed equally at first and as trained in stage 2"
    numbers = listed([str(number) for number in layers])
    return f"its hidden states {numbers}" if len(layers) > 1 else f"its hidden state {numbers}"


def _averaged(findings: Findings) -> bool:
    """Whether any subject is tested against a mean of several recordings."""
    return any(
        findings.card.subjects[subject].stories.get(story, 1) > 1
        for subject in findings.best
        for story in findings.stories.test
    )


def _from_others(findings: Findings) -> bool:
    """Whether other people, and not repeats, told the noise ceilings."""
    tables = findings.targets.values()
    return any("ceiling_from" in table and (table["ceiling_from"] == "others").any() for table in tables)


def _cleaning(options: Mapping[str, Any]) -> str:
    """The cleaning that the card remembers, as a sentence."""
    steps = []
    if options.get("drop_first"):
        steps.append(f"the first {count(options['drop_first'], 'volume')} of each scan were dropped")
    if options.get("drop_last"):
        steps.append(f"the last {count(options['drop_last'], 'volume')} of each scan were dropped")
    if options.get("smoothing_fwhm_mm"):
        steps.append(f"volumes were smoothed (FWHM {options['smoothing_fwhm_mm']:g} mm)")
    taken = []
    if options.get("detrend"):
        taken.append("a linear trend")
    if options.get("high_pass_s"):
        taken.append(f"cosine drifts slower than {options['high_pass_s']:g} s")
    if options.get("confounds"):
        taken.append(f"the confounds {listed(options['confounds'])}")
    if options.get("confounds_strategy"):
        taken.append(f"the confounds of nilearn's strategy {options['confounds_strategy']}")
    if taken:
        steps.append(f"{listed(taken)} {'was' if taken == ['a linear trend'] else 'were'} regressed out")
    sentence = "; ".join([*steps, "each target was z-scored within its scan"])
    return sentence[0].upper() + sentence[1:]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "(version unknown)"

"""Optuna's samplers, made so that what they propose is a function of seed, trial and history alone.

A sampler of Optuna draws from one stream of random numbers while it lives. One that was ended with its
process begins that stream anew, and would propose other trials than if it had lived on.
"""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from wav2bold.config import Sampler, Study
from wav2bold.errors import StudyError
from wav2bold.tuning.space import Proposals

BRANCHLESS: tuple[Sampler, ...] = ("gp", "cmaes")
"""Samplers that would draw at random whatever only some trials have."""
DRAWN = "wav2bold:drawn"
"""What was drawn together for a trial, among its attributes in Optuna's storage."""
LARGEST_POPULATION = 50
"""What Optuna takes for NSGA-II; a short sweep needs more generations than one."""


class Seeded(BaseSampler):
    """Asks a sampler that is made afresh, with a seed of its own, for each trial and parameter.

    So a trial that was half proposed when its process ended is proposed to its end as it would have been.
    make: a sampler with the given seed; what it remembers it must keep in Optuna's storage.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._together: tuple[int, BaseSampler] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._together = (trial.number, self._for(trial, ""))
        return self._together[1].infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        assert self._together is not None, "Optuna asks for the space before it asks for a point in it"
        assert self._together[0] == trial.number, "trials are asked for one after the other"
        kept = trial.system_attrs.get(DRAWN)
        if kept is None:
            # a sampler that looks at running trials would else look at this very one, if it is asked again
            kept = dict(self._together[1].sample_relative(study, trial, search_space))
            study._storage.set_trial_system_attr(trial._trial_id, DRAWN, kept)  # noqa: SLF001  # as Optuna's do
        return dict(kept)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler = self._for(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._for(trial, "").after_trial(study, trial, state, values)

    def _for(self, trial: FrozenTrial, what: str) -> BaseSampler:
        key = f"{self._seed}/{trial.number}/{what}".encode()
        return self._make(int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") >> 1)


def sampler_for(study: Study) -> Seeded:
    """The sampler that the study asks for."""
    trials = study.search.trials
    at_random = max(4, trials // 3)

    def make(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, since 2021
            match study.search.sampler:
                case "tpe":
                    # over all parameters together; those that a branch of the space lacks form groups
                    return optuna.samplers.TPESampler(
                        seed=seed, multivariate=True, group=True, n_startup_trials=at_random
                    )
                case "gp":
                    return optuna.samplers.GPSampler(
                        seed=seed, n_startup_trials=at_random, warn_independent_sampling=False
                    )
                case "cmaes":
                    return optuna.samplers.CmaEsSampler(
                        seed=seed, n_startup_trials=at_random, warn_independent_sampling=False
                    )
                case "random":
                    return optuna.samplers.RandomSampler(seed)
                case "nsgaii":
                    size = min(max(trials // 4, 4), LARGEST_POPULATION)
                    return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)

    return Seeded(make, study.seed)


def directions(study: Study) -> list[StudyDirection]:
    """Whether each goal of the study is to be high or low."""
    two = study.search.sampler == "nsgaii"
    return [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE] if two else [StudyDirection.MAXIMIZE]


def refuse_branches(study: Study, proposals: Proposals) -> None:
    """Raise StudyError if the sampler can't search a space in which some trials lack parameters."""
    conditional = proposals.conditional()
    if study.search.sampler in BRANCHLESS and conditional:
        raise StudyError(
            f"search.sampler: {study.search.sampler} can't search a space in which only some trials have "
            f"{', '.join(conditional)}",
            "take tpe, or fix what is unfrozen (search.space: {unfrozen: null})",
        )

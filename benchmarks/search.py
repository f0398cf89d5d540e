"""What the sampler and early stopping gain over random search, on the simulated dataset.

For ten seeds the same number of trials twice: by what the study says (TPE and successive halving), and at
random with every trial run to its end. Both begin with the paper's configuration. Scores are the best on the
validation stories, which is what both maximise; an epoch is a report, stage 1 included.

search_epochs_share: epochs of the whole sweep over those of random search.
search_wins: seeds where the sweep's best, once it has run half as many epochs as random search in all, is as
good as random search's with all of them, or better. What one configuration's score varies by when it is run
again with other seeds (search_spread, highest less lowest) counts as as good. search_wins_outright: without
that.
search_gain: the sweep's best less random search's once it has run as many epochs, r; median over seeds.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from _figures import show

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation, Study
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.sweep import sweep
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.workshop import Workshop

SEEDS = range(10)
TRIALS, AGAIN = 16, 5
DATA = Simulation(subjects=1, stories=5, minutes=2, history=3)
"""The brain hears another history than the paper's configuration: else the first trial is the answer."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        folder = Path(name)
        steps.simulate(folder / "recordings", DATA)
        steps.prepare(folder / "recordings", folder / "shards")
        given = Study.load(folder / "study.yaml")
        shares: list[float] = []
        leads: list[float] = []
        gains: list[float] = []
        for seed in SEEDS:
            found = searched(given, seed)
            chance = searched(given, seed, sampler="random", stopping="none")
            spent = epochs(found)
            shares.append(spent / epochs(chance))
            leads.append(best_within(found, epochs(chance) // 2) - best(chance))
            gains.append(best(found) - best_within(chance, spent))
            print(
                f"  seed {seed}: {spent} epochs found {best(found):.4f}, half of random search's "
                f"{best(chance) + leads[-1]:.4f}; {epochs(chance)} at random {best(chance):.4f}, as many "
                f"{best_within(chance, spent):.4f}",
                file=sys.stderr,
                flush=True,
            )
        again = varied(given, max(found, key=lambda trial: trial.best_score))
    spread = max(again) - min(again)
    show("search_epochs_share", shares, "share")
    show("search_wins", [sum(lead >= -spread for lead in leads)], f"of {len(leads)}")
    show("search_wins_outright", [sum(lead >= 0 for lead in leads)], f"of {len(leads)}")
    show("search_spread", [spread], "r")
    show("search_gain", gains, "r")


def searched(given: Study, seed: int, **options: str) -> list[Trial]:
    """The trials of one search, by number."""
    search = given.search.model_copy(update={"trials": TRIALS, **options})
    name = f"{given.name}-{seed}-{search.sampler}"
    study = given.model_copy(update={"name": name, "seed": seed, "search": search})
    return Tracker(study).trials(sweep(study).run_id)


def epochs(trials: Iterable[Trial]) -> int:
    """How many epochs they ran."""
    return sum(len(trial.scores) for trial in trials)


def best(trials: Iterable[Trial]) -> float:
    """The highest score of any."""
    return max(trial.best_score for trial in trials)


def best_within(trials: Iterable[Trial], spent: int) -> float:
    """The highest score that they had once this many epochs had run, one trial after another."""
    return max([score for trial in trials for score in trial.scores][:spent])


def varied(given: Study, trial: Trial) -> Sequence[float]:
    """What a configuration scores with several seeds."""
    scores = []
    for seed in range(AGAIN):
        task = {
            "number": 0,
            "configuration": trial.configuration.model_dump(mode="json"),
            "subjects": ["sub-001"],
        }
        reports = Workshop(given.model_copy(update={"seed": seed})).reports(task)
        scores.append(max(report.score for report in reports))
    return scores


if __name__ == "__main__":
    main()

"""Sweeps, refinements and trials as MLflow remembers them: what their runs hold, and how it is read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import yaml

from wav2bold.config import Configuration

if TYPE_CHECKING:  # only tracking asks MLflow
    from mlflow.entities import Metric, Run

KIND = "wav2bold.kind"
NUMBER = "wav2bold.number"
CONFIGURATION = "wav2bold.configuration"
REASON = "wav2bold.reason"
LOCAL_NAME = "wav2bold.local_name"
"""A run's name before MLflow has given it an id."""
STOPPED = "wav2bold.stopped_early"
WINNER = "wav2bold.winner"
CERTAINTY = "wav2bold.winner.certainty"
"""Tags of a sweep: its best trial's number, and how sure it is that it betters the paper's configuration."""
OF_SUBJECT = "score."
"""Before a subject's name, in the metric that is its score in a trial that refined each by itself."""


@dataclass(frozen=True)
class Trial:
    """A trial as MLflow remembers it.

    number: its place in the sweep, 0 is the paper's configuration.  scores: brain score by epoch on
    the validation stories.  best_score: the highest of them, or the last where that epoch is kept.
    status: as MLflow says.  seconds: the trial's own work, up to its last epoch.
    reason: why it failed, or "".
    trained_parameters: how many numbers of the encoder it trained; None if nobody counted.
    drift: as in `Report`, None if nobody measured it.
    stopped: whether it was, before its last epoch or subject.
    subjects: whom it refined. Where that was one after the other, `reduce` says what its score is of theirs,
    which subject_scores has as far as it came, and `scores` is by subject, each with those before it.
    """

    run_id: str
    number: int
    status: str
    configuration: Configuration
    scores: tuple[float, ...]
    best_score: float
    seconds: float
    reason: str = ""
    trained_parameters: int | None = None
    drift: float | None = None
    stopped: bool = False
    subjects: tuple[str, ...] = ()
    reduce: str | None = None
    subject_scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether its score is of all its subjects, and so can be compared with others'."""
        return self.reduce is None or not self.stopped

    @property
    def told(self) -> tuple[float, ...]:
        """Its score as it was after each epoch or subject."""
        if self.reduce is not None or not self.configuration.keeps_best:
            return self.scores
        return tuple(accumulate(self.scores, max))


@dataclass(frozen=True)
class Remembered:
    """A sweep or a refinement as MLflow remembers it.

    parts: how many of its trials or subjects ended how, by status.  best_score: the highest of those that are
    whole, NaN if there is none.  seconds: until it ended, None if it hasn't.
    """

    run_id: str
    kind: str
    name: str
    status: str
    begun: datetime
    seconds: float | None
    parts: dict[str, int]
    best_score: float


def trial_of(run: "Run", history: Iterable["Metric"]) -> Trial:
    """A trial from its run. history: of its metric `score`."""
    # a trial that was tried again told the same epochs again; the last word counts
    by_epoch = {one.step: one.value for one in sorted(history, key=lambda one: (one.step, one.timestamp))}
    scores = tuple(by_epoch.values())
    params, tags = run.data.params, run.data.tags
    configuration = Configuration.model_validate(yaml.safe_load(tags[CONFIGURATION]))
    reduction = params.get("reduce")
    kept = scores if configuration.keeps_best and reduction is None else scores[-1:]
    trained = params.get("trained_parameters")
    metrics = run.data.metrics
    return Trial(
        run_id=run.info.run_id,
        number=int(tags.get(NUMBER) or params["number"]),  # the tag is younger
        status=run.info.status,
        configuration=configuration,
        scores=scores,
        best_score=max(kept, default=float("nan")),
        seconds=run.data.metrics.get("seconds", float("nan")),
        reason=tags.get(REASON, ""),
        trained_parameters=None if trained is None else int(trained),
        drift=metrics.get("drift"),
        stopped=tags.get(STOPPED) == "true",
        subjects=tuple(params.get("subjects", "").split()),
        reduce=reduction,
        subject_scores={
            key.removeprefix(OF_SUBJECT): score
            for key, score in sorted(metrics.items())
            if key.startswith(OF_SUBJECT)
        },
    )


def remembered_of(run: "Run", children: Iterable["Run"]) -> Remembered:
    """A sweep or a refinement, and the runs below it."""
    info = run.info
    parts: dict[str, int] = defaultdict(int)
    best = float("nan")
    for child in children:
        parts[child.info.status] += 1
        score = child.data.metrics.get("best_score", float("nan"))
        part = "reduce" in child.data.params and child.data.tags.get(STOPPED) == "true"
        if child.info.status == "FINISHED" and not part and not score <= best:
            best = score
    return Remembered(
        run_id=info.run_id,
        kind=run.data.tags.get(KIND, "other"),
        name=info.run_name,
        status=info.status,
        begun=datetime.fromtimestamp(info.start_time / 1000, UTC),
        seconds=None if info.end_time is None else (info.end_time - info.start_time) / 1000,
        parts=dict(parts),
        best_score=best,
    )


def as_tag(configuration: Configuration) -> str:
    """A configuration as runs have it."""
    return str(yaml.safe_dump(configuration.model_dump(mode="json")))


def flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options with dotted keys: {"unfrozen": {"bias": None}} -> {"unfrozen.bias": "all"}."""
    items: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            items[key] = "+".join(value.get("targets", value)) or "nothing"  # types, also those of lora
            items |= {f"{key}.{inner}": _inner(one) for inner, one in value.items()}
        else:
            items[key] = "nothing" if value is None else value
    return items


def _inner(value: Any) -> Any:
    """A range of layers as 0-2 or all, names as a+b, anything else as it is."""
    if value is None:
        return "all"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    parts = list(value)
    return ("+" if isinstance(parts[0], str) else "-").join(str(part) for part in parts)

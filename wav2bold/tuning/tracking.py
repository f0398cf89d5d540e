"""What is remembered, in MLflow: the only place that knows it."""

import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import wraps
from itertools import accumulate
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import mlflow
import yaml
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from sqlalchemy.exc import SQLAlchemyError

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import DatasetCard
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.interrupts import interrupts_held

P = ParamSpec("P")
R = TypeVar("R")
KIND = "wav2bold.kind"
NUMBER = "wav2bold.number"
CONFIGURATION = "wav2bold.configuration"
REASON = "wav2bold.reason"
LOCAL_NAME = "wav2bold.local_name"
"""A run's name before MLflow has given it an id."""
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""What MLflow says of what it will never take. All else may pass, as a proxy's 404 at a start."""
STOPPED = "wav2bold.stopped_early"
WINNER = "wav2bold.winner"
CERTAINTY = "wav2bold.winner.certainty"
"""Tags of a sweep: its best trial's number, and how sure it is that it betters the paper's configuration."""
OF_SUBJECT = "score."
"""Before a subject's name, in the metric that is its score in a trial that refined each by itself."""
EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's page needs to open on the table of runs; by default it opens on traces of language models."""
MAX_PARAM = 6000  # characters; MLflow refuses longer ones


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


class Owner(Protocol):
    """Who has an experiment of its own: a study, or a benchmark. results: where the store is by default."""

    @property
    def name(self) -> str: ...
    @property
    def results(self) -> Path: ...


def tracking_uri(study: Owner) -> str:
    """MLFLOW_TRACKING_URI, or else `mlflow.db` in the study's results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(study)


def default_uri(study: Owner) -> str:
    """`mlflow.db` in the study's results folder."""
    return f"sqlite:///{study.results.resolve() / 'mlflow.db'}"


@contextmanager
def _impatient() -> Iterator[None]:
    """MLflow gives up on a server that doesn't answer within seconds; by default it takes minutes.

    Only for the first questions: a server that has answered once may be waited for.
    """
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    ours = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def asked_once() -> Iterator[None]:
    """MLflow's client asks a server once: whoever asks again does so himself, and knows that he did.

    Nobody else may use the client meanwhile: what it reads is this process's environment.
    """
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def refuses(error: Exception) -> bool:
    """Whether MLflow has understood and will never take it, so that to ask again is in vain."""
    return isinstance(error, MlflowException) and error.error_code in REFUSALS


def one_line(error: Exception) -> str:
    """What a store said, on one line, without passwords."""
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return masked(said)[:200].rstrip(".")


def _whole(write: Callable[Concatenate["Tracker", P], R]) -> Callable[Concatenate["Tracker", P], R]:
    """Ctrl-C waits while this writes to a file of SQLite: torn, it would lock out our own next write.

    A server is not waited for.
    """

    @wraps(write)
    def held(self: "Tracker", /, *args: P.args, **options: P.kwargs) -> R:
        if not self.is_file:
            return write(self, *args, **options)
        with interrupts_held():
            return write(self, *args, **options)

    return held


class Tracker:
    """One study's experiment in MLflow."""

    def __init__(self, study: Owner, make: bool = True) -> None:
        """make: whether the experiment, and a store on this machine, may be made if there is none.

        Raises TrackingError if the store can't be reached, or something isn't there and may not be made.
        """
        for chatty in ("mlflow.store.db.utils", "alembic"):  # "Creating initial MLflow database tables..."
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self.uri = tracking_uri(study)
        self.is_file = self.uri.startswith("sqlite:")
        self._artifacts = study.results.resolve() / "mlartifacts"
        self._name = study.name
        place = Path(self.uri.removeprefix("sqlite:///"))
        if self.is_file and make:
            place.parent.mkdir(parents=True, exist_ok=True)
        elif self.is_file and not place.is_file():
            raise self._no_sweep()
        try:
            with _impatient():
                self._client = mlflow.MlflowClient(self.uri)
                self._experiment_id = self._experiment(make=make).experiment_id
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            if self.uri == default_uri(study):
                cure = "move that file away to begin a new one"
            else:
                cure = "start it, or mend MLFLOW_TRACKING_URI or leave it out"
            raise TrackingError(
                f"MLflow at {masked(self.uri)} can't be used ({one_line(error)})", cure
            ) from None

    @_whole
    def begin(
        self, kind: str, name: str, study: Study, card: DatasetCard, tags: Mapping[str, str] | None = None
    ) -> str:
        """Start a run of a kind ("sweep", "refine"); its id.

        Study file, search space and dataset are logged with it.
        """
        run = self._client.create_run(
            self._experiment_id, run_name=name, tags={KIND: kind} | dict(tags or {})
        )
        self._describe(run.info.run_id, study, card)
        return str(run.info.run_id)

    @_whole
    def begin_run(self, kind: str, name: str, params: Mapping[str, Any], parent: str | None = None) -> str:
        """Start a run of a kind that is no study's, with its parameters; its id. parent: of a child run."""
        tags = {KIND: kind} | ({} if parent is None else {"mlflow.parentRunId": parent})
        run_id = str(self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id)
        self.params(run_id, params)
        return run_id

    @_whole
    def begin_again(
        self, run_id: str, study: Study, card: DatasetCard, tags: Mapping[str, str] | None = None
    ) -> None:
        """Go on with a run that `begin` started, whatever became of it. tags: in place of those it has."""
        self._reopen(run_id)
        if tags:
            self.tags(run_id, tags)
        self._describe(run_id, study, card)

    @_whole
    def begin_trial(
        self,
        kind: str,
        name: str,
        parent: str,
        configuration: Configuration,
        more: Mapping[str, Any],
        left: str | None = None,
        local: str | None = None,
        at_ms: int | None = None,
        *,
        again: bool = False,
    ) -> str:
        """Start a child run for one configuration; its id. Every option becomes a parameter.

        more: further parameters, the trial's `number` among them. What a reader needs to know the trial by
        comes with the run itself: a driver that is killed here leaves no run that says nothing.
        left: the run that such a driver left, to go on with.
        local: a name of its own, by which `run_of` finds it.  again: it may have been started by that name.
        at_ms: when it began, milliseconds of Unix time; None for now.
        """
        tags = {
            KIND: kind,
            "mlflow.parentRunId": parent,
            NUMBER: str(more["number"]),
            CONFIGURATION: as_tag(configuration),
        }
        if local is not None:
            tags[LOCAL_NAME] = local
        if left is not None:
            run_id = left
            self._reopen(run_id)
        elif again and local is not None and (found := self._named(local)):
            run_id = found[-1].info.run_id
        else:
            run_id = self._client.create_run(self._experiment_id, at_ms, tags, name).info.run_id
        named = {"history_tr": configuration.history}  # with its unit, for whoever searches MLflow
        self.params(run_id, flat(configuration.model_dump(mode="json")) | named | dict(more))
        return str(run_id)

    @_whole
    def params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log parameters, flat and searchable."""
        listed = [Param(key, str(value)[:MAX_PARAM]) for key, value in params.items()]
        self._client.log_batch(run_id, params=listed)

    @_whole
    def metrics(self, run_id: str, metrics: Mapping[str, float], step: int, at_ms: int | None = None) -> None:
        """Log metrics of one epoch. at_ms: milliseconds of Unix time; the same ones twice leave one."""
        now = int(time.time() * 1000) if at_ms is None else at_ms
        listed = [Metric(key, value, now, step) for key, value in metrics.items() if not math.isnan(value)]
        self._client.log_batch(run_id, metrics=listed)

    @_whole
    def tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @_whole
    def artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Log a file, or all files of a folder."""
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), folder)
        else:
            self._client.log_artifact(run_id, str(path), folder)

    @_whole
    def end(self, run_id: str, status: str = "FINISHED", at_ms: int | None = None) -> None:
        """Close a run: FINISHED, FAILED or KILLED. at_ms: when it ended; None for now."""
        self._client.set_terminated(run_id, status, at_ms)

    @_whole
    def keep_one(self, run_id: str, local: str) -> None:
        """Remove other runs of that name than this: a server that was asked again did both in the end."""
        for run in self._named(local):
            if run.info.run_id != run_id:
                self._client.delete_run(run.info.run_id)

    def run_of(self, local: str) -> str:
        """Id of the run that was begun by that name. Raises MlflowException if there is none."""
        found = self._named(local)
        if not found:
            raise MlflowException("its run was never begun", RESOURCE_DOES_NOT_EXIST)
        return str(found[-1].info.run_id)

    def knows(self, run_id: str) -> bool:
        """Whether there is such a run."""
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if refuses(error):
                return False
            raise
        return True

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What MLflow raises within because it is away, as a TrackingError."""
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if isinstance(error, MlflowException) and refuses(error):
                raise
            raise TrackingError(
                f"MLflow at {masked(self.uri)} does not answer any more ({one_line(error)})",
                "run the same command again once it does",
            ) from None

    def newest_sweep(self) -> str:
        """Run id of the newest sweep. Raises TrackingError if there is none."""
        found = self._search(f"tags.`{KIND}` = 'sweep'", 1)
        if not found:
            raise self._no_sweep()
        return str(found[0].info.run_id)

    def trials(self, sweep: str, where: str | None = None) -> list[Trial]:
        """All trials of a sweep, by number; also of another experiment's.

        where: a filter of MLflow's that they must pass. Raises TrackingError if it can't be read.
        """
        query = f"tags.`{KIND}` = 'trial' AND tags.`mlflow.parentRunId` = '{sweep}'"
        experiment_id = self._client.get_run(sweep).info.experiment_id
        try:
            runs = self._search(
                query if where is None else f"{query} AND {where}", experiment_id=experiment_id
            )
        except MlflowException as error:
            if where is None:
                raise
            reason = str(error).strip().splitlines()[0].partition(": ")[2] or str(error)
            raise TrackingError(
                f"--where: MLflow can't read {where} ({reason[:200].rstrip('.')})",
                "write it as in: params.history_tr = '6' AND metrics.best_score > 0.1",
            ) from None
        return sorted((self._trial(run) for run in runs), key=lambda trial: trial.number)

    def _no_sweep(self) -> TrackingError:
        return TrackingError(
            f"MLflow at {masked(self.uri)} remembers no sweep of {self._name}", "run `wav2bold sweep` first"
        )

    def refined(self, configuration: Configuration) -> dict[str, Run]:
        """By subject, the newest finished refinement with a configuration, whose run has the encoder."""
        found: dict[str, Run] = {}
        for run in self._search(f"tags.`{KIND}` = 'subject' AND attributes.status = 'FINISHED'"):
            if run.data.tags.get(CONFIGURATION) == as_tag(configuration):
                found.setdefault(run.data.params["subjects"], run)
        return found

    def trials_beginning(self, run_id: str) -> list[Trial]:
        """Trials of any sweep of the study whose run ids begin like this."""
        runs = self._search(f"tags.`{KIND}` = 'trial'")
        return [self._trial(run) for run in runs if run.info.run_id.startswith(run_id)]

    def remembered(self) -> list[Remembered]:
        """All sweeps and refinements of the study, the newest first."""
        runs = self._search("")
        children: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            children[run.data.tags.get("mlflow.parentRunId", "")].append(run)
        return [self._remembered(run, children[run.info.run_id]) for run in children[""]]

    def _remembered(self, run: Run, children: Iterable[Run]) -> Remembered:
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

    def tags_of(self, run_id: str) -> dict[str, str]:
        """A run's tags."""
        return dict(self._client.get_run(run_id).data.tags)

    def status_of(self, run_id: str) -> str:
        """A run's status, as MLflow says."""
        return str(self._client.get_run(run_id).info.status)

    def _named(self, local: str) -> list[Run]:
        return self._search(f"tags.`{LOCAL_NAME}` = '{local}'")

    def _reopen(self, run_id: str) -> None:
        self._client.update_run(run_id, status="RUNNING")

    def _describe(self, run_id: str, study: Study, card: DatasetCard) -> None:
        data = study.model_dump(mode="json")
        if study.search.storage is not None:
            data["search"]["storage"] = masked(study.search.storage)
        self._client.log_dict(run_id, data, "study.yaml")
        rates = study.encoder_rates.model_dump(mode="json")
        self._client.log_dict(run_id, data["search"]["space"] | {"encoder_lr": rates}, "space.yaml")
        params = {"seed": study.seed, "encoder": study.encoder, "dataset_digest": card.digest}
        known = self._client.get_run(
            run_id
        ).data.params  # of one that is gone on with, and MLflow changes none
        self.params(run_id, {key: value for key, value in params.items() if key not in known})
        dataset = Dataset(
            name=study.shards.name or str(study.shards),
            digest=card.digest[:36],
            source_type="local" if isinstance(study.shards, Path) else "url",
            source=str(study.shards),
        )
        self._client.log_inputs(
            run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )

    def _trial(self, run: Run) -> Trial:
        history = self._client.get_metric_history(run.info.run_id, "score")
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

    def _search(self, query: str, limit: int | None = None, experiment_id: str | None = None) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment_id or self._experiment_id],
                query,
                max_results=limit or 1000,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += page
            token = page.token
            if limit or not token:
                return found

    def _experiment(self, *, make: bool) -> Experiment:
        found = self._client.get_experiment_by_name(self._name)
        if found is None and not make:
            raise self._no_sweep()
        if found is None:
            place = self._artifacts.as_uri() if self.is_file else None
            self._client.create_experiment(self._name, artifact_location=place, tags=EXPERIMENT)
            found = self._client.get_experiment_by_name(self._name)
        assert found is not None, f"experiment {self._name} vanished"
        return found


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

"""What is remembered, in MLflow: the only place that knows it."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import mlflow
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from sqlalchemy.exc import SQLAlchemyError

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import DatasetCard
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.interrupts import interrupts_held
from wav2bold.tuning.mlflow_server import Owner, default_uri, impatient, one_line, refuses, tracking_uri
from wav2bold.tuning.remembered import (
    CONFIGURATION,
    KIND,
    LOCAL_NAME,
    NUMBER,
    Remembered,
    Trial,
    as_tag,
    flat,
    remembered_of,
    trial_of,
)

P = ParamSpec("P")
R = TypeVar("R")
EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
"""What MLflow's page needs to open on the table of runs; by default it opens on traces of language models."""
MAX_PARAM = 6000  # characters; MLflow refuses longer ones


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
            with impatient():
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
        return sorted(map(self._trial, runs), key=lambda trial: trial.number)

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
        return [remembered_of(run, children[run.info.run_id]) for run in children[""]]

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
        return trial_of(run, self._client.get_metric_history(run.info.run_id, "score"))

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

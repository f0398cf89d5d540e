"""Refined encoders in MLflow's model registry, where others find the one to use by a name."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from wav2bold.config import Configuration
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.mlflow_server import one_line
from wav2bold.tuning.tracking import Tracker

CHAMPION = "champion"
NAME = re.compile(r"[^\W_](?:[\w .-]{0,248}[\w.-])?")
"""What MLflow takes as a name, which also stands in an address: no slash, colon or @."""
ALIAS = re.compile(r"(?!v\d+$|latest$|champion$)[\w-]{1,255}", re.IGNORECASE)
"""Subjects' ids that MLflow takes as aliases."""


@dataclass(frozen=True)
class Registered:
    """The champion among a model's versions. score: brain score on the validation stories."""

    name: str
    version: int
    subject: str
    score: float

    @property
    def uri(self) -> str:
        """What MLflow finds it by."""
        return f"models:/{self.name}@{CHAMPION}"


def check_name(name: str) -> None:
    """Raise TrackingError unless a model may have this name. Asks nobody."""
    if not NAME.fullmatch(name):
        raise TrackingError(
            f"--register: {name!r} can't name a model",
            "use letters, digits, dot, dash, underscore and blanks, beginning with a letter or digit",
        )


def register(
    tracker: Tracker, name: str, configuration: Configuration, subjects: Collection[str] | None = None
) -> Registered:
    """Make the encoders refined with a configuration versions of the model `name`; the best is its champion.

    Each is the newest finished one of its subject, and can be found by that subject's id as an alias, too.
    One that is a version already is not made one again. The champion is whose brain score on the validation
    stories is highest.
    subjects: None for all who were refined with this configuration.
    Raises TrackingError if none was, or MLflow's registry can't be used.
    """
    check_name(name)
    found = tracker.refined(configuration)
    runs = {who: run for who, run in sorted(found.items()) if subjects is None or who in subjects}
    lacking = [who for who in subjects or () if who not in found]
    if not runs or lacking:
        whose = f" of {', '.join(lacking)}" if lacking else ""
        raise TrackingError(
            f"MLflow at {masked(tracker.uri)} remembers no encoder{whose} that was refined with this "
            "configuration",
            "run `wav2bold refine STUDY --config FILE` with it, into another --out if all are kept",
        )
    client = mlflow.MlflowClient(tracker.uri)
    try:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description="Speech encoders refined by wav2bold")
        versions = {subject: _version(client, name, subject, run) for subject, run in runs.items()}
        best = max(runs, key=lambda subject: _score(runs[subject]))
        for subject, version in versions.items():
            if ALIAS.fullmatch(subject):
                client.set_registered_model_alias(name, subject, str(version))
        client.set_registered_model_alias(name, CHAMPION, str(versions[best]))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"MLflow at {masked(tracker.uri)} can't register {name} ({one_line(error)})",
            "the encoders are refined and kept: mend that, and give the command again",
        ) from None
    return Registered(name, versions[best], best, _score(runs[best]))


def _version(client: mlflow.MlflowClient, name: str, subject: str, run: Run) -> int:
    """The version that holds a run's encoder: the one there is, or a new one."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    if found:
        return int(found[0].version)
    tags = {"wav2bold.subject": subject, "wav2bold.brain_score": f"{_score(run):.6g}"}
    source = f"{run.info.artifact_uri}/encoder"
    made = client.create_model_version(name, source, run.info.run_id, tags, await_creation_for=0)
    return int(made.version)


def _score(run: Run) -> float:
    return float(run.data.metrics.get("best_score", float("-inf")))

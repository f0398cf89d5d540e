"""Where MLflow's store is, how long it is waited for, and what its refusals mean."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mlflow.exceptions import MlflowException

from wav2bold.places import masked

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""What MLflow says of what it will never take. All else may pass, as a proxy's 404 at a start."""


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
def impatient() -> Iterator[None]:
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

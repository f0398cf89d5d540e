"""Work handed over to a cluster: Ray's Jobs API runs it there, whether or not anybody looks on."""

import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import requests
from ray.job_submission import JobStatus, JobSubmissionClient

from wav2bold.cluster.token import refused, show_token
from wav2bold.config import Configuration, Study
from wav2bold.errors import ClusterError
from wav2bold.options import read_yaml
from wav2bold.places import masked

SERVER, DEFAULT = "RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265"
"""Ray's variable for the address of its job server, and where that is on a cluster's head."""
ANSWERS_S = (2.0, 5.0)
"""How long the job server may take to take our call, and to answer."""
ASKED_EVERY_S = 1.0
READY_S, NOT_READY = 60.0, "No available agent to submit job"
"""How long a head may take to be ready for jobs after its start, and what it says until then."""
PROGRAM = "from wav2bold.cli import main; main()"


def job_server(address: str | None = None) -> JobSubmissionClient:
    """The job server at a URL, at RAY_API_SERVER_ADDRESS, or on this machine.

    Raises ClusterError, within seconds, if none answers there, it refuses our token, or has another Ray.
    """
    show_token()
    url = address or os.environ.get(SERVER) or DEFAULT
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    shown = masked(url)
    if not url.startswith(("http://", "https://")):
        raise ClusterError(f"{shown} is no address of a job server", f"write {DEFAULT}")
    there = _version(url, shown)
    if there != ray.__version__:
        raise ClusterError(
            f"the cluster at {shown} runs Ray {there}, this is {ray.__version__}",
            f"install ray=={there} here",
        )
    return JobSubmissionClient(url)


def _version(url: str, shown: str) -> str:
    """Ray's, of the job server at a URL."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    cure = "a cluster's head has it at port 8265, on loopback: reach it by `ssh -L 8265:127.0.0.1:8265 HEAD`"
    try:
        answer = requests.get(
            f"{url}/api/version", headers=get_auth_headers_if_auth_enabled({}), timeout=ANSWERS_S
        )
    except requests.RequestException as error:
        raise ClusterError(f"no job server answers at {shown} ({type(error).__name__})", cure) from None
    if answer.status_code in {401, 403}:
        raise refused(shown)
    try:
        return str(answer.json()["ray_version"])
    except (ValueError, KeyError, TypeError):
        raise ClusterError(f"something else than Ray's job server answers at {shown}", cure) from None


def hand_over(
    server: JobSubmissionClient,
    command: str,
    study: Path,
    options: Mapping[str, str],
    config: str | None = None,
    flags: Sequence[str] = (),
    subsets: str | None = None,
) -> str:
    """Have a command of `wav2bold` run on a study on the cluster; gives the job's id.

    The study travels with absolute paths, and this very package with it; what that needs must be installed
    there. options, flags: of the command.  config, subsets: the files of a configuration and of subsets,
    which travel too, or words. Raises StudyError as reading these files does.
    """
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # how it packs and sends
    loaded = Study.load(study)
    words = [command, "study.yaml", *(word for pair in options.items() for word in pair), *flags]
    with TemporaryDirectory() as folder:
        loaded.save(Path(folder) / "study.yaml")
        if config is not None:
            file = Path(config)
            if config != "paper":
                Configuration.load(file).save(Path(folder) / "config.yaml")
            words += ["--config", "paper" if config == "paper" else "config.yaml"]
        if subsets is not None:
            if subsets != "each":
                read_yaml(Path(subsets))
                shutil.copyfile(subsets, Path(folder) / "subsets.yaml")
            words += ["--subsets", "each" if subsets == "each" else "subsets.yaml"]
        return _taken(
            server,
            entrypoint=shlex.join(["python", "-c", PROGRAM, *words]),
            runtime_env={"working_dir": folder, "py_modules": [str(Path(__file__).parents[1])]},
            metadata={"study": loaded.name, "command": command},
        )


def _taken(server: JobSubmissionClient, **job: Any) -> str:
    """The id of a job, once the cluster takes it: a head that has just started takes none at first."""
    until = time.monotonic() + READY_S
    while True:
        try:
            return str(server.submit_job(**job))
        except RuntimeError as error:
            if NOT_READY not in str(error):
                raise
        if time.monotonic() > until:
            raise ClusterError(f"the cluster has taken no jobs for {READY_S:g} s", "look at its head's log")
        time.sleep(ASKED_EVERY_S)


def told(server: JobSubmissionClient, job: str, *, follow: bool) -> Iterator[str]:
    """What a job has written so far; where it is followed, also what it writes until its end."""
    shown = 0
    while True:
        status = status_of(server, job)
        text = server.get_job_logs(job)
        if len(text) > shown:
            yield text[shown:]
            shown = len(text)
        if status.is_terminal() or not follow:
            return
        time.sleep(ASKED_EVERY_S)


def stop(server: JobSubmissionClient, job: str) -> bool:
    """End a job; whether it still ran."""
    running = not status_of(server, job).is_terminal()
    if running:
        server.stop_job(job)
    return running


def exit_code(server: JobSubmissionClient, job: str) -> int:
    """Of a job that has ended; 1 for one that was lost or stopped before it could tell."""
    told = server.get_job_info(job)
    if told.status == JobStatus.SUCCEEDED:
        return 0
    return told.driver_exit_code or 1


def status_of(server: JobSubmissionClient, job: str) -> JobStatus:
    """How far a job is. Raises ClusterError for one that the cluster doesn't know, or not any more."""
    with _unknown(server, job):
        return server.get_job_status(job)


@contextmanager
def _unknown(server: JobSubmissionClient, job: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "404" not in str(error) and "does not exist" not in str(error):
            raise
        known = [one.submission_id for one in server.list_jobs() if one.submission_id]
        cure = f"it knows {', '.join(known)}" if known else "it knows none"
        raise ClusterError(f"the cluster knows no job {job}", cure) from None

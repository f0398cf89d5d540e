"""Between trials and MLflow: what is to be remembered is kept on disk, and sent on by a thread."""

import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wav2bold.config import Configuration, Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.progress import Progress, silent
from wav2bold.tuning.interrupts import interrupts_held
from wav2bold.tuning.mlflow_server import asked_once, one_line, refuses
from wav2bold.tuning.records import Records, begin_records, left_records
from wav2bold.tuning.tracking import Tracker

LOCAL = "local-"
"""How our own names of runs begin, which are known before MLflow has the run."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Between two attempts to reach an MLflow that is away: doubled from the first to the longest."""
TELLS_AFTER_S = 2.0
AFTER_ERROR_S = 10.0
"""How long whoever ends by an error waits for what is unsent: it is not lost, and Ctrl-C should end soon."""


class Outbox:
    """Takes what a `Tracker` would write, keeps it on disk, and sends it in order while the caller goes on.

    An MLflow that is away or slow is asked until it answers. A run has a name of ours until MLflow has given
    it an id; the name is a tag of it, by which it is found if the answer was lost. Every record may be sent
    twice and leaves one trace, so that the next process can take over the file of a killed one.
    At the end all is waited for: `wait_s` seconds from the last answer.
    """

    def __init__(
        self, tracker: Tracker, records: Records, progress: Progress = silent, wait_s: float = 0
    ) -> None:
        self._tracker, self._records = tracker, records
        self._progress, self._wait_s = progress, wait_s
        self._changed = threading.Condition()
        self._ids: dict[str, str] = {}  # MLflow's, by our names
        self._doubtful: set[str] = set()  # runs that were asked for more than once
        self._refused: list[str] = []
        self._trouble, self._answered = "it is slow", time.monotonic()
        self._thread: threading.Thread | None = None
        self._undo = ExitStack()
        self._given_up = threading.Event()

    def begin_trial(
        self,
        kind: str,
        name: str,
        parent: str,
        configuration: Configuration,
        more: Mapping[str, Any],
        left: str | None = None,
    ) -> str:
        """As `Tracker.begin_trial`; gives our name of the run."""
        run = left or f"{LOCAL}{secrets.token_hex(16)}"
        options = configuration.model_dump(mode="json")
        given = {"kind": kind, "name": name, "parent": parent, "configuration": options, "more": dict(more)}
        self._add("begin_trial", run, given | {"left": left, "at_ms": _now_ms()})
        return run

    def metrics(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """As `Tracker.metrics`."""
        plain = {key: float(value) for key, value in metrics.items()}
        self._add("metrics", run, {"metrics": plain, "step": step, "at_ms": _now_ms()})

    def tags(self, run: str, tags: Mapping[str, str]) -> None:
        """As `Tracker.tags`."""
        self._add("tags", run, {"tags": dict(tags)})

    def artifact(self, run: str, path: Path, folder: str | None = None) -> None:
        """As `Tracker.artifact`; the file or folder must stay until it is sent."""
        self._add("artifact", run, {"path": str(path.resolve()), "folder": folder})

    def end(self, run: str, status: str = "FINISHED") -> None:
        """As `Tracker.end`."""
        self._add("end", run, {"status": status, "at_ms": _now_ms()})

    def settle(self) -> None:
        """Return once all is in MLflow, or on disk where a lost node loses none of it."""
        self._records.settle()

    def run_id(self, run: str) -> str:
        """MLflow's id of a run, once it has one; before, our name."""
        return self._ids.get(run, run)

    def __enter__(self) -> Self:
        if self._records.waiting:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until all is sent. Raises TrackingError if it can't be, unless an error is under way."""
        wait_s = self._wait_s if error is None else min(self._wait_s, AFTER_ERROR_S)
        sent = False
        # a second Ctrl-C waits for a file, which takes milliseconds; a server is not waited for
        held = interrupts_held() if error is not None and self._tracker.is_file else nullcontext()
        try:
            with held:
                sent = self._all_sent(wait_s)
                if sent and self._doubtful:  # whatever was asked for twice has come by now
                    for run in sorted(self._doubtful):
                        self._add("keep_one", run, {"local": run})
                    sent = self._all_sent(wait_s)
        finally:
            with self._changed:
                self._given_up.set()
                self._changed.notify_all()
                self._records.close(remove=sent)
            self._undo.close()
        where = f"MLflow at {masked(self._tracker.uri)}"
        if error is None and not sent:
            raise TrackingError(
                f"{where} did not answer for {wait_s:g} s ({self._trouble}); the {self._records.waiting} "
                f"records that it lacks are in {self._records.path}",
                "once it is back, the study's next command sends them first: sweep --resume, best, runs",
            )
        if error is None and self._refused:
            raise TrackingError(
                f"{where} refused {len(self._refused)} records ({self._refused[0]}); they are in "
                f"{self._records.aside}",
                "look whether somebody removed its runs; all else is there",
            )

    def _add(self, do: str, run: str, given: Mapping[str, Any]) -> None:
        with interrupts_held(), self._changed:
            self._records.add({"do": do, "run": run, "with": given})
            self._changed.notify_all()
        self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._undo.enter_context(asked_once())
            # a daemon: whoever gives up must not wait for a server that never answers
            self._thread = threading.Thread(target=self._send_all, name="outbox", daemon=True)
            self._thread.start()

    def _all_sent(self, wait_s: float) -> bool:
        """Whether all is sent, after the last of it or `wait_s` from the last answer."""
        begun = time.monotonic()
        with self._changed:
            while self._records.waiting:
                silence_s = time.monotonic() - max(begun, self._answered)
                if silence_s > wait_s:
                    return False
                if silence_s > TELLS_AFTER_S:
                    where, what = masked(self._tracker.uri), f"{self._records.waiting} records"
                    self._progress(f"up to {wait_s:g} s for MLflow at {where}, which lacks {what}", 0, 0)
                self._changed.wait(0.5)
        return True

    def _send_all(self) -> None:
        again, pause_s = self._records.were_left, FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._records.waiting or self._given_up.is_set())
                if self._given_up.is_set():
                    return
                record = self._records.first()
            refused = None
            try:
                self._send(record["do"], record["run"], record["with"], again=again)
            except Exception as error:  # noqa: BLE001  # whatever a store or its artifacts raise
                refused = one_line(error)
                if not refuses(error):
                    with self._changed:
                        self._trouble = refused
                        self._changed.wait_for(self._given_up.is_set, pause_s)
                    again, pause_s = True, min(2 * pause_s, LONGEST_PAUSE_S)
                    continue
            again, pause_s = self._records.were_left, FIRST_PAUSE_S
            with self._changed:
                if self._given_up.is_set():
                    return
                if refused is not None:
                    self._refused.append(refused)
                    self._records.put_aside(refused)
                self._records.drop()
                self._answered = time.monotonic()
                self._changed.notify_all()

    def _send(self, do: str, run: str, given: Mapping[str, Any], *, again: bool) -> None:
        """Tell MLflow of one record. again: it may know of it already."""
        given = dict(given)
        if do == "begin_trial":
            given["configuration"] = Configuration.model_validate(given["configuration"])
            local = None if given["left"] else run
            if again and local:
                self._doubtful.add(local)
            self._ids[run] = self._tracker.begin_trial(**given, local=local, again=again)
            return
        if run not in self._ids:
            self._ids[run] = self._tracker.run_of(run) if run.startswith(LOCAL) else run
        if do == "artifact":
            given["path"] = Path(given["path"])
        getattr(self._tracker, do)(self._ids[run], **given)


def outbox(tracker: Tracker, study: Study, parent: str, progress: Progress) -> Outbox:
    """An empty outbox for the runs below `parent`, in the study's results folder."""
    records = begin_records(study.results, study.name, {"parent": parent})
    return Outbox(tracker, records, progress, study.search.mlflow_wait_s)


def opened(study: Study, progress: Progress = silent, *, make: bool = True) -> Tracker:
    """The study's `Tracker`, once MLflow has what killed or impatient processes left unsent.

    A file whose sweep this MLflow doesn't know is let alone: it is another's.
    make: as `Tracker` takes it. Raises TrackingError as that does, or if MLflow doesn't take what was left.
    """
    tracker = Tracker(study, make=make)
    for records in left_records(study.results, study.name):
        with tracker.answering():
            ours = records.about and tracker.knows(records.about["parent"])
        if ours:
            with Outbox(tracker, records, progress, study.search.mlflow_wait_s):
                pass
    return tracker


def _now_ms() -> int:
    return int(time.time() * 1000)

"""SUPERB's tasks by name: those that are here, and what each needs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wav2bold.errors import DataError, StudyError
from wav2bold.options import nearest
from wav2bold.trainables.superb import asr, asv, er, ic, ks, pr, sd, sid
from wav2bold.trainables.superb.learning import Course, Lesson
from wav2bold.trainables.superb.librispeech import Spoken
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.transcribing import CtcLesson
from wav2bold.trainables.superb.utterances import Utterances


@dataclass(frozen=True)
class PooledTask:
    """Of whole utterances. needs: what must lie below the data folder, and its source.  read: its clips."""

    published: Published
    needs: Mapping[str, str]
    read: Callable[[Path, Options], Utterances]


@dataclass(frozen=True)
class SpokenTask:
    """Of what was said. needs: as in `PooledTask`.  lesson: what is to be learnt of the utterances."""

    published: Published
    needs: Mapping[str, str]
    lesson: Callable[[Path, Spoken, Options], CtcLesson]


@dataclass(frozen=True)
class FramedTask:
    """Of every frame, by itself. needs: as in `PooledTask`.  read: its clips, and what is to be learnt."""

    published: Published
    needs: Mapping[str, str]
    read: Callable[[Path, Options], tuple[Course, Lesson]]


POOLED: Mapping[str, PooledTask] = {
    "ks": PooledTask(ks.PUBLISHED, ks.NEEDS, ks.read),
    "ic": PooledTask(ic.PUBLISHED, ic.NEEDS, ic.read),
    "sid": PooledTask(sid.PUBLISHED, sid.NEEDS, sid.read),
    "er": PooledTask(er.PUBLISHED, er.NEEDS, er.read),
}
SPOKEN: Mapping[str, SpokenTask] = {
    "pr": SpokenTask(pr.PUBLISHED, pr.NEEDS, pr.lesson),
    "asr": SpokenTask(asr.PUBLISHED, asr.NEEDS, asr.lesson),
}
FRAMED: Mapping[str, FramedTask] = {
    "asv": FramedTask(asv.PUBLISHED, asv.NEEDS, asv.read),
    "sd": FramedTask(sd.PUBLISHED, sd.NEEDS, sd.read),
}
TASKS: Mapping[str, PooledTask | SpokenTask | FramedTask] = {**POOLED, **SPOKEN, **FRAMED}


def check_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """The tasks, each once. Raises StudyError for one that there isn't."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in TASKS:
            near = nearest(name, TASKS)
            cure = f"did you mean {near}? " if near else ""
            raise StudyError(f"--tasks: there is no task {name}", f"{cure}there are {', '.join(TASKS)}")
    if not found:
        raise StudyError("--tasks: names no task", f"there are {', '.join(TASKS)}")
    return found


def check_needs(names: Iterable[str], data: Path) -> None:
    """Raise DataError, with where to get it, unless the data folder has what these tasks begin from."""
    for name in names:
        for needed, cure in TASKS[name].needs.items():
            if not (data / needed).exists():
                raise DataError(f"{name}: there is no {data / needed}", cure)


def heard_together(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Tasks by what one pass of the encoder serves: those of what was said together, others by themselves."""
    together = tuple(name for name in names if name in SPOKEN)
    groups: list[tuple[str, ...]] = [(name,) for name in names if name not in SPOKEN]
    return [*groups, together] if together else groups

"""Whatever is killed, and whoever else writes: the shards end as an undisturbed `prepare` leaves them."""

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from commands import Running, begun, environment
from recordings import add_pair
from stores import contents, new_bucket
from undisturbed import undisturbed_bytes

import wav2bold.datasets.single_writer as single_writer_file
from wav2bold.config import Cleaning, Split, Study, Targets
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.shards import open_shards, run_path, story_path, targets_path
from wav2bold.datasets.single_writer import TakenOverError, single_writer
from wav2bold.datasets.writing import claim
from wav2bold.errors import DataError
from wav2bold.places import Place, put_whole, remove

pytestmark = pytest.mark.usefixtures("small_ray")
ONE, OTHER = Cleaning(high_pass_s=None), Cleaning(high_pass_s=None, drop_first=2)
PREPARE = """
import sys, wav2bold
from wav2bold.terminal import watching
recordings, out, drop_first = sys.argv[1:]
cleaning = wav2bold.Cleaning(high_pass_s=None, drop_first=int(drop_first))
with watching("prepare") as progress:
    wav2bold.prepare(recordings, out, cleaning, cpus=1, progress=progress)
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects hear four stories, one of them twice: 4 sounds, 10 recordings, 2 tables.

    A voxel is constant in one recording, so that the others of its subject are made narrower.
    """
    root = tmp_path_factory.mktemp("many") / "recordings"
    return add_pair(root, stories=4, seconds=20.0, twice=("story0",))


@pytest.fixture(scope="module")
def undisturbed(
    recordings: Path, tmp_path_factory: pytest.TempPathFactory, small_ray: None
) -> Mapping[Cleaning, Mapping[str, bytes]]:
    made = undisturbed_bytes(recordings, tmp_path_factory.mktemp("undisturbed"), (ONE, OTHER))
    assert set(made[ONE]) == set(made[OTHER])
    assert len(made[ONE]) == 4 + 10 + 2 + 2
    return made


@pytest.fixture
def left() -> Iterator[list[psutil.Process]]:
    """Processes that a test left behind, Ray's of killed drivers: they are ended, and no others."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        if process.is_running():  # which also checks that the id is still that process's
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def begin(*words: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(map(str, words)),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def begin_command(recordings: Path, shards: Path, cleaning: Cleaning) -> Running:
    """`wav2bold prepare` as a user starts it, with a Ray of its own."""
    study = Study(
        name="x",
        shards=shards,
        encoder="x",
        split=Split(validation=("story0",), test=("story1",)),
        cleaning=cleaning,
    )
    study.save(shards.parent / "study.yaml")
    return begun("prepare", recordings, "--out", shards, "--cpus", 1, folder=shards.parent, out=False)


def begin_step(recordings: Path, out: Place, cleaning: Cleaning, folder: Path) -> subprocess.Popen[str]:
    """The same step from Python, whose cleaning is no file that two would share."""
    return begin(sys.executable, "-c", PREPARE, recordings, out, cleaning.drop_first, folder=folder)


def until_a_moment(driver: Running, moment: random.Random) -> None:
    """Return at a moment while it reads or writes, or when it has ended."""
    wanted = moment.randrange(1, 22)  # of the lines that it writes while it works
    for number, _ in enumerate(driver.said, start=1):
        if number == wanted:
            time.sleep(moment.uniform(0, 0.1))
            return


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_visible(folder: Path, *allowed: Mapping[str, bytes]) -> None:
    """Whatever a reader can see is whole; with a card, so is the whole folder."""
    hidden = (".lock", ".aside")
    seen = {name: data for name, data in contents(folder).items() if not name.startswith(hidden)}
    for name, data in seen.items():
        assert any(data == known[name] for known in allowed), name
    if "dataset.json" in seen:
        assert any(seen == known for known in allowed)


def workers() -> list[psutil.Process]:
    """Processes of the tests' own Ray that run tasks, or wait for one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline()[:1])
            if title.startswith("ray::") and not re.search("Actor|Agent", title):  # they are not workers
                found.append(process)
        except psutil.Error:
            continue
    return found


def some_workers() -> list[psutil.Process]:
    """The same, once there is one: the place of one that was killed may not be taken yet."""
    until = time.monotonic() + 60
    while not (found := workers()):
        assert time.monotonic() < until, "Ray has no worker"
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_driver_leaves_nothing_half_and_the_next_prepare_finishes(
    seed: int,
    recordings: Path,
    tmp_path: Path,
    undisturbed: Mapping[Cleaning, Mapping[str, bytes]],
    left: list[psutil.Process],
) -> None:
    moment = random.Random(seed)
    folder = tmp_path / "shards"
    codes = []
    for cleaning in (ONE, OTHER) * 3:  # each over what the one before had written
        driver = begin_command(recordings, folder, cleaning)
        until_a_moment(driver, moment)
        if not driver.process.has_ended():
            left += psutil.Process(driver.process.pid).children(recursive=True)
        driver.process.kill()
        codes.append(driver.process.wait(10))
        driver.said.close()
        if folder.exists():
            check_visible(folder, undisturbed[ONE], undisturbed[OTHER])
    assert codes.count(-signal.SIGKILL) > 4, codes
    prepare(recordings, folder, OTHER)
    assert contents(folder) == undisturbed[OTHER]
    assert prepare(recordings, folder, OTHER).written == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_workers_cost_nothing_but_time(
    seed: int, recordings: Path, tmp_path: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]]
) -> None:
    moment = random.Random(seed)
    folder = tmp_path / "shards"
    steps = [("reading", 3), ("reading", 8), ("reading", 11), ("choosing targets", 2)]
    killed: list[int] = []

    def kill(what: str, done: int, of: int) -> None:
        if (what, done) in steps:
            time.sleep(moment.uniform(0, 0.05))
            worker = moment.choice(some_workers())
            worker.kill()
            killed.append(worker.pid)
            check_visible(folder, undisturbed[ONE])

    prepare(recordings, folder, ONE, kill)
    assert len(killed) == len(steps)
    assert contents(folder) == undisturbed[ONE]


def both(first: subprocess.Popen[str], second: subprocess.Popen[str]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=200)[1] for process in (first, second)]
    return [(process.returncode, text) for process, text in zip((first, second), said, strict=True)]


@pytest.mark.slow
def test_two_at_once_in_a_folder_take_turns(
    recordings: Path, tmp_path: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]]
) -> None:
    folder, cleanings = tmp_path / "shards", (ONE, OTHER)
    done = both(*[begin_step(recordings, folder, cleaning, tmp_path) for cleaning in cleanings])
    assert [code for code, _ in done] == [0, 0], done
    assert any("waiting for another prepare of the same shards" in said for _, said in done)
    assert contents(folder) in [undisturbed[cleaning] for cleaning in cleanings]
    assert not [name for name in everything_in(folder) if name.startswith((".lock", ".aside"))]


@pytest.mark.slow
@pytest.mark.parametrize("cleanings", [(ONE, ONE), (ONE, OTHER)], ids=["alike", "different"])
def test_two_at_once_in_a_store_end_as_the_later_one(
    cleanings: tuple[Cleaning, Cleaning],
    recordings: Path,
    tmp_path: Path,
    object_store: str,
    undisturbed: Mapping[Cleaning, Mapping[str, bytes]],
) -> None:
    out = new_bucket(f"two-{cleanings[1].drop_first}")
    done = both(*[begin_step(recordings, out, cleaning, tmp_path) for cleaning in cleanings])
    codes = [code for code, _ in done]
    assert 0 in codes, done
    for code, said in done:
        assert code == 0 or "another `wav2bold prepare`, begun later, writes there; wait" in said
    found = contents(out)
    del found[".wav2bold"]  # names its writer there
    possible = [
        {name: data for name, data in undisturbed[cleaning].items() if name != ".wav2bold"}
        for code, cleaning in zip(codes, cleanings, strict=True)
        if code == 0
    ]
    assert found in possible


def test_a_lock_that_a_dead_process_left_blocks_nobody(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from wav2bold.datasets.single_writer import single_writer\n"
        "with single_writer(Path(sys.argv[1]), print) as writer:\n"
        "    (writer.aside / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / "shards"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / ".lock").exists()
    said: list[str] = []
    with single_writer(folder, lambda what, done, of: said.append(what)) as writer:
        own = f".aside/{writer.token}"
        assert everything_in(folder) == {".lock", ".aside", own, f"{own}/half"}
    assert said == []
    assert everything_in(folder) == set()


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with single_writer(tmp_path / "a" / "b", print):
        assert (tmp_path / "a" / "b" / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_goes_on_after_a_mistake_leaves_nothing(tmp_path: Path) -> None:
    written: list[Path] = []
    tasks: list[threading.Thread] = []

    def go_on(aside: Path) -> None:
        with suppress(FileNotFoundError):
            for number in range(100_000):
                written.append(aside / f"{number}.parquet")
                written[-1].write_text("a draft")

    def be_mistaken() -> None:
        with single_writer(tmp_path / "shards", print) as writer:
            assert isinstance(writer.aside, Path)
            tasks.append(threading.Thread(target=go_on, args=[writer.aside]))
            tasks[0].start()
            while len(written) < 1000:
                time.sleep(0.001)
            raise DataError("a recording is damaged", "fetch it again")

    with pytest.raises(DataError, match="is damaged"):
        be_mistaken()
    tasks[0].join()
    assert len(written) < 100_000
    assert list(tmp_path.iterdir()) == []


def test_an_older_writer_in_a_store_stops_and_takes_its_card_back(
    recordings: Path, object_store: str, small_ray: None
) -> None:
    out = new_bucket("older")
    takers: list[Callable[[], object]] = [lambda: prepare(recordings, out, OTHER)]

    def late(what: str, done: int, of: int) -> None:
        if what == "writing" and done == 5 and takers:
            takers.pop()()

    with pytest.raises(
        DataError, match=r"another `wav2bold prepare`, begun later, writes there; wait for it"
    ):
        prepare(recordings, out, ONE, late)
    assert open_shards(out).card.cleaning["drop_first"] == 2
    assert prepare(recordings, out, OTHER).written <= 2  # what was being put while the newer one ended


def test_whatever_fails_after_a_takeover_is_told_as_one(object_store: str) -> None:
    out = new_bucket("taken")
    with single_writer(out, print) as older:
        claim(out, older.token)
        with pytest.raises(ValueError, match="shapes"), older.claimed():
            raise ValueError("shapes don't match")
        claim(out, "a newer one")
        with pytest.raises(TakenOverError, match="begun later, writes there; wait"), older.claimed():
            raise ValueError("shapes don't match")


@pytest.mark.parametrize("step", ["measuring", "locating targets"])
def test_no_table_is_made_of_shards_that_another_replaces(
    step: str, recordings: Path, object_store: str, small_ray: None
) -> None:
    out = new_bucket(f"replaced-{step.partition(' ')[0]}")
    split = Split(validation=("story1",), test=("story2",))
    prepare(recordings, out, ONE, split=split)
    remove(targets_path(out, "sub-0"))
    seen: list[str] = []

    def late(what: str, done: int, of: int) -> None:
        seen.append(what)
        if what == step:
            put_whole(run_path(out, "sub-0", "story0", 1), b"another's")

    with pytest.raises(TakenOverError, match="another `wav2bold prepare`, begun later, writes there; wait"):
        prepare(recordings, out, ONE, late, split=split)
    assert step in seen
    assert not targets_path(out, "sub-0").exists()


@pytest.mark.parametrize("kind", ["folder", "store"])
def test_what_was_drafted_before_an_interruption_is_not_made_again(
    kind: str,
    recordings: Path,
    tmp_path: Path,
    object_store: str,
    small_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out: Place = tmp_path / "shards" if kind == "folder" else new_bucket("interrupted")

    def interrupt(what: str, done: int, of: int) -> None:
        if (what, done) == ("locating targets", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(recordings, out, ONE, interrupt)
    drafts = {bytes_ for name, bytes_ in contents(out).items() if name.startswith(".aside/")}
    assert len(drafts) >= 4 + 10  # the sounds and recordings, and the wider drafts of some
    before = {path: path.stat().st_ino for path in out.glob(".aside/*/*")} if isinstance(out, Path) else {}
    seen: list[str] = []
    done = prepare(recordings, out, ONE, lambda what, done, of: seen.append(what))
    assert "choosing targets" not in seen
    assert done.written == 4 + 10 + 2
    assert set(contents(out).values()) & drafts
    if isinstance(out, Path):  # the same files, moved
        moved = {path.stat().st_ino for path in out.rglob("*.parquet")}
        assert len(moved & set(before.values())) >= 4 + 10
    else:  # whose writer may be at work still; a week later it isn't
        monkeypatch.setattr(single_writer_file, "ABANDONED_S", -1)
        assert prepare(recordings, out, ONE).written == 0
    assert not [name for name in contents(out) if name.startswith(".aside")]


def test_readers_keep_the_whole_old_shards_until_all_new_ones_are_drafted(
    recordings: Path, tmp_path: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]], small_ray: None
) -> None:
    folder = tmp_path / "shards"
    prepare(recordings, folder, ONE)

    def look(what: str, done: int, of: int) -> None:
        if what != "writing":
            seen = {
                name: data
                for name, data in contents(folder).items()
                if not name.startswith((".lock", ".aside"))
            }
            assert seen == undisturbed[ONE]

    prepare(recordings, folder, OTHER, look)
    assert contents(folder) == undisturbed[OTHER]


@pytest.mark.parametrize("least", [None, 0.01])
def test_files_overwritten_in_a_store_are_written_again_before_the_card(
    least: float | None, recordings: Path, object_store: str, small_ray: None
) -> None:
    targets, split = Targets(min_ceiling=least), Split(validation=("story1",), test=("story2",))
    out, other = (new_bucket(f"{name}-{'all' if least is None else 'some'}") for name in ("spoilt", "calm"))
    prepare(recordings, other, ONE, targets=targets, split=split)
    spoilt = [
        targets_path(out, "sub-0"),
        run_path(out, "sub-1", "story0", 1),
        story_path(out, "story3"),
    ]

    def late(what: str, done: int, of: int) -> None:
        if what == "writing" and done == of:
            while spoilt:
                put_whole(spoilt.pop(), b"an older writer's")

    prepare(recordings, out, ONE, late, targets, split)
    assert not spoilt
    found, expected = contents(out), contents(other)
    assert found.pop(".wav2bold") != expected.pop(".wav2bold")  # each names its writer
    assert found == expected

"""Whatever is killed, and whoever else writes: the shards end as an undisturbed `prepare` leaves them."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray
from commands import environment, executable
from recordings import add_story, add_volumes, noise
from stores import contents, new_bucket

from wav2bold.config import Cleaning
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.single_writer import single_writer
from wav2bold.errors import DataError
from wav2bold.places import Place

pytestmark = pytest.mark.usefixtures("small_ray")
ONE, OTHER = Cleaning(high_pass_s=None), Cleaning(high_pass_s=None, drop_first=2)
PREPARE = """
import sys, logging, ray, wav2bold
from wav2bold.terminal import watching
recordings, out, address, drop_first = sys.argv[1:]
ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
cleaning = wav2bold.Cleaning(high_pass_s=None, drop_first=int(drop_first))
with watching("prepare") as progress:
    wav2bold.prepare(recordings, out, cleaning, progress=progress)
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects hear four stories, one of them twice: 4 sounds, 10 recordings, 2 tables."""
    root = tmp_path_factory.mktemp("many") / "recordings"
    for story in range(4):
        add_story(root, f"story{story}", 20.0, seed=story)
        for subject in range(2):
            for run in range(1, 3 if story == 0 else 2):
                y = noise(5, 4, 3, 14, seed=100 * story + 10 * subject + run)
                add_volumes(root, y, f"sub-{subject}", f"story{story}", run=run)
    return root


@pytest.fixture(scope="module")
def undisturbed(
    recordings: Path, tmp_path_factory: pytest.TempPathFactory, small_ray: None
) -> Mapping[Cleaning, Mapping[str, bytes]]:
    """What a `prepare` that nobody disturbs writes, with each cleaning."""
    made = {}
    for name, cleaning in (("one", ONE), ("other", OTHER)):
        folder = tmp_path_factory.mktemp(name) / "shards"
        prepare(recordings, folder, cleaning)
        made[cleaning] = contents(folder)
    assert set(made[ONE]) == set(made[OTHER])
    assert len(made[ONE]) == 4 + 10 + 2 + 2
    return made


def begin(recordings: Path, out: Place, cleaning: Cleaning = ONE) -> subprocess.Popen[str]:
    """A `prepare` in a process of its own, on the tests' Ray."""
    address = ray.get_runtime_context().gcs_address
    words = [str(recordings), str(out), address, str(cleaning.drop_first)]
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_a_moment(process: subprocess.Popen[str], moment: random.Random) -> None:
    """Return at a moment while it reads or writes, or when it has ended."""
    assert process.stderr
    wanted = moment.randrange(1, 22)  # of the lines that it writes while it works
    for number, _ in enumerate(process.stderr, start=1):
        if number == wanted:
            time.sleep(moment.uniform(0, 0.1))
            return


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_visible(folder: Path, *allowed: Mapping[str, bytes]) -> None:
    """Whatever a reader can see is whole; with a card, so is the whole folder."""
    hidden = (".lock", ".aside-")
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
            if title.startswith("ray::") and "Actor" not in title:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_driver_leaves_nothing_half_and_the_next_prepare_finishes(
    seed: int, recordings: Path, tmp_path: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]]
) -> None:
    moment = random.Random(seed)
    folder = tmp_path / "shards"
    for cleaning in (ONE, OTHER) * 3:  # each over what the one before had written
        driver = begin(recordings, folder, cleaning)
        until_a_moment(driver, moment)
        driver.kill()
        driver.communicate()
        if folder.exists():
            check_visible(folder, undisturbed[ONE], undisturbed[OTHER])
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
    steps = [("reading", 3), ("reading", 8), ("writing", 4), ("writing", 9)]
    killed: list[int] = []

    def kill(what: str, done: int, of: int) -> None:
        if (what, done) in steps:
            time.sleep(moment.uniform(0, 0.05))
            worker = moment.choice(workers())
            worker.kill()
            killed.append(worker.pid)
            check_visible(folder, undisturbed[ONE])

    prepare(recordings, folder, ONE, kill)
    assert len(killed) == len(steps)
    assert contents(folder) == undisturbed[ONE]


@pytest.mark.slow
def test_a_killed_command_with_its_own_ray_is_finished_by_the_same_command(
    recordings: Path, tmp_path: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]]
) -> None:
    folder = tmp_path / "shards"
    words = ["prepare", str(recordings), "--out", str(folder), "--cpus", "1"]
    (tmp_path / "study.yaml").write_text(
        "{name: x, shards: shards, encoder: x, split: {validation: [story0], test: [story1]}, "
        "cleaning: {high_pass_s: null}}"
    )
    with ended([executable(), *words]) as command:
        until_a_moment(command, random.Random(5))
        command.kill()
        command.communicate()
        check_visible(folder, undisturbed[ONE])
    done = subprocess.run(
        [executable(), *words], env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert contents(folder) == undisturbed[ONE]


@contextmanager
def ended(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, whose processes, Ray's too, are all gone in the end."""
    command = subprocess.Popen(
        words,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    mine: dict[int, psutil.Process] = {}
    real_kill = command.kill

    def kill() -> None:
        for process in psutil.Process(command.pid).children(recursive=True):
            mine[process.pid] = process
        real_kill()

    command.kill = kill  # type: ignore[method-assign]
    try:
        yield command
    finally:
        if command.poll() is None:
            command.kill()
        for process in mine.values():
            if process.is_running():  # also checks that the id is still that process's
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(list(mine.values()), timeout=10)


def both(first: subprocess.Popen[str], second: subprocess.Popen[str]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=200)[1] for process in (first, second)]
    return [(process.returncode, text) for process, text in zip((first, second), said, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("cleanings", [(ONE, ONE), (ONE, OTHER)], ids=["alike", "different"])
def test_two_at_once_in_a_folder_take_turns(
    cleanings: tuple[Cleaning, Cleaning],
    recordings: Path,
    tmp_path: Path,
    undisturbed: Mapping[Cleaning, Mapping[str, bytes]],
) -> None:
    folder = tmp_path / "shards"
    done = both(*[begin(recordings, folder, cleaning) for cleaning in cleanings])
    assert [code for code, _ in done] == [0, 0], done
    assert any("waiting for another prepare of the same shards" in said for _, said in done)
    assert contents(folder) in [undisturbed[cleaning] for cleaning in cleanings]
    assert not [name for name in everything_in(folder) if name.startswith((".lock", ".aside-"))]


@pytest.mark.slow
@pytest.mark.parametrize("cleanings", [(ONE, ONE), (ONE, OTHER)], ids=["alike", "different"])
def test_two_at_once_in_a_store_end_as_the_later_one(
    cleanings: tuple[Cleaning, Cleaning],
    recordings: Path,
    object_store: str,
    undisturbed: Mapping[Cleaning, Mapping[str, bytes]],
) -> None:
    out = new_bucket(f"two-{cleanings[1].drop_first}")
    done = both(*[begin(recordings, out, cleaning) for cleaning in cleanings])
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
        assert writer.aside
        assert everything_in(folder) == {".lock", writer.aside.name}
    assert said == []


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with single_writer(tmp_path / "a" / "b", print):
        assert (tmp_path / "a" / "b" / ".lock").is_file()
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

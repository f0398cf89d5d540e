"""A plan is of the study's own data, and what doesn't fit is refused before anything begins."""

import json
from pathlib import Path

import pytest
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from typer.testing import CliRunner

from wav2bold.cli import app
from wav2bold.cluster.shape import Machines, Shape
from wav2bold.config import Configuration, Objective, Search, Split, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.windows import windows
from wav2bold.errors import ClusterError, DataError, StudyError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.refine import Material, refine
from wav2bold.tuning.calibration import timed
from wav2bold.tuning.plan import plan
from wav2bold.tuning.planning import plan_of

STORIES = ("bakery", "ferry", "library", "orchard")
WIDTHS = {"sub-001": 3, "sub-002": 2, "sub-003": 4000}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four stories of 12 s, three people, one of whom has many targets; nobody's cluster."""
    folder = tmp_path_factory.mktemp("plan")
    sounds = {story: speech(12, number) for number, story in enumerate(STORIES)}
    on_disk(folder / "shards", sounds, noise_listeners(STORIES, 12, 1.0, WIDTHS), 1.0)
    return Study(
        name="planned",
        shards=folder / "shards",
        encoder=str(save_small_wav2vec2(folder / "encoder")),
        split=Split(validation=("library",), test=("orchard",)),
        results=folder / "results",
        configuration=Configuration(history=2, epochs=1, unfrozen={"attention": (1, 1)}, noise="white"),
        search=Search(space={"history": {"low": 1, "high": 3}}, parallel=3, trials=7),
    )


def machine(gb: float = 64, cpus: float = 2) -> Shape:
    return Shape("a test", (Machines("kind", 1, cpus, 0, gb * 1e9),))


def test_the_command_tells_what_the_shards_hold_and_the_machine_has(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    study.save(tmp_path / "study.yaml")
    words = ["cluster", "plan", str(tmp_path / "study.yaml"), "--cpus", "2"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    # volumes at 0 to 12 s; the longest history that is compared is 3 TRs of 1 s: those from 3 s on
    assert (told["train"], told["validation"], told["targets"]) == (2 * 10, 10, 4005)
    assert (told["demand"]["workers"], told["at_once"], told["limits"]) == (1, 2, "cores")
    assert told["memory_total"] == told["demand"]["memory"] > told["memory"]["process"]
    assert not study.results.exists()
    shown = CliRunner().invoke(app, words).stdout
    assert "7, 2 at once; limited by cores" in shown
    assert "3 people, 4,005 targets" in shown


def test_activations_are_those_that_a_refinement_stores(study: Study, tmp_path: Path) -> None:
    people = ("sub-001", "sub-002")
    shards, encoder = open_shards(study.shards), load_encoder(study.encoder)
    heard = (windows(shards, people, some, 3) for some in (("bakery", "ferry"), ("library",)))
    for _ in refine(Material(encoder, shards, ActivationStore(tmp_path), *heard), study.configuration, 0):
        pass
    held = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    found = plan(study, people, machine())
    assert found.activations < held < found.activations + 6 * 1000  # a header each, of six arrays
    assert found.activations_most > found.activations


def test_too_little_memory_names_how_many_people_fit(study: Study) -> None:
    people = tuple(WIDTHS)
    everyone = plan(study, people, machine()).memory.total / 1e9
    without_the_wide = plan(study, people[:2], machine()).memory.total / 1e9
    between = (everyone + without_the_wide) / 2
    plan(study, people, machine(everyone * 1.01))
    with pytest.raises(StudyError, match=r"of memory, .*; name 2 of the 3 people as `subjects`"):
        plan(study, people, machine(between))
    with pytest.raises(StudyError, match="give it a machine of 1 GB"):
        plan(study, people[:1], machine(0.1))


def test_people_who_are_refined_one_by_one_take_the_memory_of_the_largest(study: Study) -> None:
    people = tuple(WIDTHS)
    search = study.search.model_copy(update={"objective": Objective()})
    found = plan(study.model_copy(update={"search": search}), people, machine())
    assert found.memory == plan(study, people[2:], machine()).memory
    assert found.memory.total < plan(study, people, machine()).memory.total
    assert (found.people, found.targets) == (3, 4005)


def test_a_disk_without_room_for_the_first_trial_is_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wav2bold.tuning.plan._room", lambda results: 1000)
    with pytest.raises(DataError, match=r"results: the study's own configuration stores .* 0.0 GB are free"):
        plan(study, ("sub-001",), machine())


def test_two_clusters_are_one_too_many() -> None:
    with pytest.raises(ClusterError, match="--config and --address are two clusters; give one"):
        plan_of(Path("study.yaml"), Path("ray_config.yaml"), "host:6379")


def test_a_short_trial_tells_how_long_the_sweep_takes(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    longer = study.model_copy(
        update={
            "configuration": study.configuration.model_copy(update={"epochs": 12}),
            "subjects": ("sub-001", "sub-002"),
            "results": tmp_path / "results",
        }
    )
    longer.save(tmp_path / "study.yaml")
    words = ["cluster", "plan", str(tmp_path / "study.yaml"), "--cpus", "2"]
    assert "which --calibrate tells" in CliRunner().invoke(app, words).stdout
    done = CliRunner().invoke(app, [*words, "--calibrate", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    pace = told["pace"]
    assert (pace["epochs"], pace["share"]) == (12, 1.0)  # it has no more stories than a short trial hears
    # 7 trials, 2 at once: one after the other four times
    assert told["hours"] == pytest.approx(4 * (pace["first"] + 12 * pace["epoch"]) / 3600)
    assert not (tmp_path / "results").exists()


def test_a_short_trial_hears_the_shortest_stories_and_counts_for_all(study: Study, tmp_path: Path) -> None:
    lengths = dict.fromkeys(STORIES, 12) | {"bakery": 24, "tower": 12}
    sounds = {story: speech(seconds, number) for number, (story, seconds) in enumerate(lengths.items())}
    bold = {
        key: volumes
        for story, seconds in lengths.items()
        for key, volumes in noise_listeners((story,), seconds, 1.0, {"sub-001": 3}).items()
    }
    on_disk(tmp_path / "shards", sounds, bold, 1.0)
    pace = timed(study.model_copy(update={"shards": tmp_path / "shards"}), ("sub-001",), 1, "here")
    # volumes from 3 s on: 10 of 12 s and 22 of 24 s; bakery is left out
    assert pace.share == pytest.approx(30 / 52)
    assert pace.timed < pace.trial  # of as many epochs, on 52 windows

"""`prepare` leaves a study file that the next step can read, and never touches the user's own."""

from pathlib import Path

import pytest
from listeners import card, volumes

from wav2bold.config import Cleaning, Configuration, Split, Study
from wav2bold.datasets.shards import DatasetCard
from wav2bold.datasets.starter import begin_study, recommended, study_for, study_path
from wav2bold.errors import DataError


def of(*stories: str) -> DatasetCard:
    bold = {("sub-001", story): volumes([[0.0]], 1.5) for story in stories}
    return card(dict.fromkeys(stories, 60.0), bold, 1.5)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "recordings" / "encoder").mkdir(parents=True)
    return tmp_path / "recordings"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "work" / "shards").mkdir(parents=True)
    return tmp_path / "work" / "shards"


def recommend(recordings: Path) -> None:
    Study(
        name="simulated",
        shards=Path("shards"),
        encoder="encoder",
        split=Split(validation=("bakery",), test=("orchard",)),
        cleaning=Cleaning(drop_first=7),
        configuration=Configuration(history=3),
        seed=5,
    ).save(recordings / "study.yaml")


def test_a_study_begins_beside_the_shards_and_points_to_them(recordings: Path, shards: Path) -> None:
    path = begin_study(recordings, shards, of("orchard", "bakery", "ferry", "library"))
    assert path == shards.parent / "study.yaml" == study_path(shards)
    study = Study.load(path)
    assert study.shards == shards
    assert study.results.resolve() == shards.parent
    assert study.encoder == "facebook/wav2vec2-base"
    assert (study.split.validation, study.split.test) == (("library",), ("orchard",))


def test_paths_in_a_begun_study_are_relative_so_that_the_folder_can_move(
    recordings: Path, shards: Path, tmp_path: Path
) -> None:
    path = begin_study(recordings, shards, of("orchard", "bakery", "ferry"))
    assert str(tmp_path) not in path.read_text()
    shards.parent.rename(tmp_path / "moved")
    assert Study.load(tmp_path / "moved" / "study.yaml").shards == tmp_path / "moved" / "shards"


def test_the_heading_names_the_next_command(recordings: Path, shards: Path) -> None:
    path = begin_study(recordings, shards, of("orchard", "bakery", "ferry"))
    assert "# Next: wav2bold sweep study.yaml\n" in path.read_text()


def test_a_study_that_is_there_is_kept_byte_by_byte(recordings: Path, shards: Path) -> None:
    recommend(recordings)
    mine = study_path(shards)
    mine.write_text("# mine\nname: own\nshards: shards\nencoder: x\nsplit: {validation: [a], test: [b]}\n")
    before = mine.read_bytes()
    assert begin_study(recordings, shards, of("a", "b")) == mine
    assert mine.read_bytes() == before


def test_what_the_recordings_recommend_is_taken_over_and_its_encoder_found(
    recordings: Path, shards: Path
) -> None:
    recommend(recordings)
    study = Study.load(begin_study(recordings, shards, of("bakery", "ferry", "orchard")))
    assert Path(study.encoder) == recordings / "encoder"
    assert study.shards == shards
    assert (study.name, study.seed, study.configuration.history) == ("simulated", 5, 3)
    assert study.split == Split(validation=("bakery",), test=("orchard",))


def test_too_few_stories_for_a_split_are_refused(recordings: Path, shards: Path) -> None:
    with pytest.raises(DataError) as raised:
        begin_study(recordings, shards, of("bakery", "ferry"))
    assert str(raised.value) == (
        f"{recordings}: has 2 stories, a split needs 3; add stories; the shards are in {shards}"
    )
    assert not study_path(shards).exists()


@pytest.mark.parametrize("folder", ["my study (2024)", "_drafts", "étude"])
def test_a_folder_whose_name_no_study_may_have_still_gets_one(
    recordings: Path, tmp_path: Path, folder: str
) -> None:
    shards = tmp_path / folder / "shards"
    shards.mkdir(parents=True)
    assert Study.load(begin_study(recordings, shards, of("bakery", "ferry", "orchard"))).shards == shards


def test_cleaning_comes_from_the_users_study_before_the_recommended_one(
    recordings: Path, shards: Path
) -> None:
    assert study_for(recordings, shards) is None
    assert recommended(recordings) is None
    recommend(recordings)
    found = study_for(recordings, shards)
    assert found is not None
    assert found.cleaning.drop_first == 7
    study = Study(
        name="own",
        shards=shards,
        encoder="x",
        split=Split(validation=("a",), test=("b",)),
        cleaning=Cleaning(drop_first=2),
    )
    study.save(study_path(shards))
    found = study_for(recordings, shards)
    assert found is not None
    assert found.cleaning.drop_first == 2

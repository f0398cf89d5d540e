"""What is told of shards is what their files say, also when there are thousands of them."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from commands import installed, succeeds
from crowds import TR_S, crowd
from rich.console import Console
from stores import new_bucket

import wav2bold
from wav2bold.config import Cleaning
from wav2bold.datasets.inspecting.facts import Facts
from wav2bold.datasets.inspecting.inspection import inspect
from wav2bold.datasets.inspecting.listing import cleaning_words, listing
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.errors import DataError
from wav2bold.places import put_whole

LENGTHS = {(0, 0): [60, 60], (1, 0): [60, 57], (1, 2): [], (2, 3): [62]}


@dataclass(frozen=True)
class Watched(Shards):
    """Shards that count what is read of them."""

    read: list[str] = field(default_factory=list)

    def target_table(self, subject: str, columns: object = None) -> object:
        self.read.append("targets")
        return super().target_table(subject, columns)

    def repeat(self, subject: str, story: str, place: int) -> object:
        self.read.append("recordings")
        return super().repeat(subject, story, place)

    def audio(self, story: str) -> object:
        self.read.append("sounds")
        return super().audio(story)


def told(facts: Facts, width: int = 100) -> str:
    console = Console(width=width, highlight=False, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(listing(facts, width))
    return captured.get()


def rows(text: str, first: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.startswith(first)]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crowd(tmp_path_factory.mktemp("few") / "shards", 3, 4, lengths=LENGTHS, widths={2: 24}).root


@pytest.mark.parametrize("volumes_in_card", [True, False])
def test_facts_are_those_of_the_files(tmp_path: Path, volumes_in_card: bool) -> None:
    root = crowd(tmp_path / "s", 3, 4, lengths=LENGTHS, widths={2: 24}, told=volumes_in_card).root
    facts = wav2bold.inspect(root)
    table = (
        pads.dataset(root / "bold", partitioning="hive")
        .to_table(["subject", "story", "__filename"])
        .to_pandas()
    )
    assert facts.volumes == len(table)
    assert facts.seconds == pytest.approx(TR_S * len(table))
    assert facts.recordings == table["__filename"].nunique()
    for one in facts.subjects:
        own = table[table["subject"] == one.name]
        counts = own.groupby(["story", "__filename"]).size()
        assert {story: list(counts[story]) for story in counts.index.levels[0] if story in counts} == {
            story: list(volumes) for story, volumes in one.volumes.items()
        }
        assert (one.total, one.seconds) == (len(own), pytest.approx(TR_S * len(own)))
        targets = pq.ParquetFile(root / "targets" / f"subject={one.name}.parquet").read().to_pandas()
        assert one.targets == len(targets)
        assert one.ceiling == pytest.approx(targets["ceiling"].mean())
        assert one.tsnr is None
    for story in facts.stories:
        counts = table[table["story"] == story.name].groupby("__filename").size()
        sound = pads.dataset(root / "stimuli" / f"story={story.name}").to_table().to_pandas()["samples"]
        assert story.seconds == sound.map(len).sum() / 16_000
        assert (story.recordings, story.median_volumes) == (len(counts), counts.median())
        assert (story.least_volumes, story.most_volumes) == (counts.min(), counts.max())
        assert story.subjects == table[table["story"] == story.name]["subject"].nunique()


def test_tsnr_is_told_where_the_shards_tell_it(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 2, 2, tsnr=True, recorded=False)
    for one in inspect(shards).subjects:
        assert one.tsnr == pytest.approx(float(shards.targets(one.name)["tsnr"].mean()))
    line = rows(told(inspect(shards)), "sub-2")[0]
    assert line[-1] == "50.5"


def test_no_recording_of_9315_is_opened(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 345, 27, recorded=False)  # there is none to be opened
    watched = Watched(shards.root, shards.card)
    facts = inspect(watched)
    assert watched.read == ["targets"] * 345
    assert (facts.recordings, facts.volumes) == (9315, 9315 * 60)
    for width in (80, 120, 200):
        text = told(facts, width)
        assert max(map(len, text.splitlines())) <= width
        assert all(one.name in text for one in facts.subjects)
        assert len(text.splitlines()) < 345


def test_every_number_of_a_few_subjects_is_in_the_terminal(few: Path) -> None:
    text = told(inspect(open_shards(few)))
    times = "\N{MULTIPLICATION SIGN}"
    assert "A crowd" in text
    assert "TR 1.5 s, space fsaverage5" in text
    assert "high_pass_s 128, detrend, dtype float32" in text
    assert "3 subjects, 4 stories, 13 recordings: 779 volumes, 19 min 28 s" in text
    assert rows(text, "story1") == [["story1", "90.0", "2", times, "60", "60", "+", "57", "60"]]
    assert rows(text, "story3") == [["story3", "90.0", "60", "\N{EN DASH}", "60"]]
    assert rows(text, "sub-1") == [["sub-1", "4", "5", "300", "450", "20", "0.300"]]
    assert rows(text, "sub-3")[0][:6] == ["sub-3", "4", "4", "242", "363", "24"]


def test_what_is_unlike_the_others_is_named_with_its_numbers(tmp_path: Path) -> None:
    odd = {(1, 2): [], (3, 0): [40], (4, 1): [60, 90], (5, 1): [61]}
    shards = crowd(tmp_path / "s", 9, 3, lengths=odd, widths={6: 10}, ceilings={7: 0.2}, recorded=False)
    facts = inspect(shards)
    assert [(one.subject, one.words) for one in facts.unlike] == [
        ("sub-2", "did not hear story3, which most others did"),
        ("sub-4", "story1 has 40 volumes (60 s), the story lasts 90 s"),
        ("sub-5", "story2 recording 2 has 90 volumes, the median is 60"),
        ("sub-7", "has 10 targets, the median is 20"),
        ("sub-8", "has a mean ceiling of 0.15, far below the others"),
    ]
    assert {one.kind for one in facts.unlike} == {"stories", "length", "targets", "ceiling"}
    text = told(facts)
    assert all(f"  {one.subject}: {one.words}" in text for one in facts.unlike)


def test_stories_that_few_heard_are_missed_by_nobody(tmp_path: Path) -> None:
    """As in collections where everybody heard some of the stories."""
    some = {(i, j): [] for i in range(12) for j in range(6) if (i + j) % 3}
    assert inspect(crowd(tmp_path / "s", 12, 6, lengths=some, recorded=False)).unlike == ()
    fewer = some | {(0, j): [] for j in range(1, 6)}
    found = inspect(crowd(tmp_path / "t", 12, 6, lengths=fewer, recorded=False)).unlike
    assert [(one.subject, one.what) for one in found] == [("sub-01", "heard 1 story, the median is 2")]


def test_recordings_that_are_all_cut_short_are_like_each_other(tmp_path: Path) -> None:
    short = {(i, 0): [50] for i in range(4)}
    assert inspect(crowd(tmp_path / "s", 4, 2, lengths=short, recorded=False)).unlike == ()
    two = {(0, 0): [80], (1, 0): [45]}
    found = inspect(crowd(tmp_path / "t", 2, 1, lengths=two, recorded=False)).unlike
    assert [one.words for one in found] == ["story1 has 45 volumes (68 s), the story lasts 90 s"]


def test_more_oddities_than_fit_are_counted(tmp_path: Path) -> None:
    odd = {(i, 0): [30] for i in range(20)}
    facts = inspect(crowd(tmp_path / "s", 60, 2, lengths=odd, recorded=False))
    assert len(facts.unlike) == 20
    assert "and 5 more; --json lists all" in told(facts)


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    for subjects in (2, 40):
        facts = inspect(
            crowd(tmp_path / str(subjects), subjects, 2, named=("sub-[b]", "[bold]it's "), recorded=False)
        )
        text = told(facts)
        assert "[bold]it's 1" in text
        assert f"sub-[b]{subjects}" in text


def test_cleaning_is_told_without_saying_where_files_lie(few: Path) -> None:
    cleaning = Cleaning(
        high_pass_s=None, confounds=("csf", "trans_x"), mask=Path("/home/somebody/ears.nii.gz")
    )
    facts = replace(wav2bold.inspect(few), cleaning=cleaning.model_dump(mode="json"))
    assert "cleaning: detrend, confounds csf trans_x, mask ears.nii.gz, dtype float32" in told(facts)
    assert cleaning_words(replace(facts, cleaning={"detrend": False, "drop_first": 0})) == "none"


def test_json_holds_the_same_and_no_nan(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 2, 2, ceilings={0: np.nan, 1: np.nan}, recorded=False)
    for name in ("sub-1", "sub-2"):
        path = shards.root / "targets" / f"subject={name}.parquet"
        table = pq.read_table(path, partitioning=None).to_pandas().assign(ceiling=np.float32("nan"))
        table.to_parquet(path)
    done = succeeds("inspect", shards.root, "--json", run=installed)
    found = json.loads(done.out, parse_constant=pytest.fail)
    facts = wav2bold.inspect(shards.root)
    assert found["subjects"][0]["ceiling"] is None
    assert [one["volumes"] for one in found["subjects"]] == [{"story1": [60], "story2": [60]}] * 2
    assert (found["volumes"], found["tr_s"], found["digest"]) == (facts.volumes, TR_S, facts.digest)
    assert not (tmp_path / "quality.html").exists()


def test_command_lists_and_writes_the_page_beside_the_shards(few: Path) -> None:
    done = succeeds("inspect", few, run=installed)
    assert rows(done.out, "sub-1")
    assert done.errors == [f"written: {few.parent / 'quality.html'}"]
    assert (few.parent / "quality.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("marked", "said"),
    [(False, "holds no shards (no dataset.json); run `wav2bold prepare` first"), (True, "not finished by")],
)
def test_a_folder_without_shards_is_refused_in_one_line(tmp_path: Path, marked: bool, said: str) -> None:
    if marked:
        (tmp_path / ".wav2bold").touch()
    done = installed("inspect", tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert done.errors == [line for line in done.errors if said in line]
    assert len(done.errors) == 1
    with pytest.raises(DataError, match=r"holds no shards|not finished"):
        wav2bold.inspect(tmp_path)


def test_a_missing_table_of_targets_is_named(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 2, 2, recorded=False)
    (shards.root / "targets" / "subject=sub-2.parquet").unlink()
    with pytest.raises(DataError, match=r"subject=sub-2.parquet: missing; run `wav2bold prepare` again"):
        inspect(shards)


def test_a_page_that_can_not_be_written_is_refused_before_any_work(few: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give the name of a file"):
        wav2bold.inspect(few, tmp_path)


def test_shards_at_a_url_are_told_and_drawn_in_the_working_folder(
    few: Path, tmp_path: Path, object_store: str
) -> None:
    out = new_bucket("inspected")
    for path in sorted(few.rglob("*")):
        if path.is_file():
            put_whole(out / path.relative_to(few).as_posix(), path.read_bytes())
    here = inspect(open_shards(few))
    assert replace(wav2bold.inspect(str(out)), shards=here.shards) == here
    folder = tmp_path / "working"
    folder.mkdir()
    done = succeeds("inspect", out, folder=folder, run=installed)
    assert done.err.strip().endswith(f"written: {folder / 'quality.html'}")
    assert (folder / "quality.html").stat().st_size > 10_000

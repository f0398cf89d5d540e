"""The reader gives back what was written, cheaply, and says what is wrong with what is not ours."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from wav2bold.datasets.shards import (
    Bold,
    DatasetCard,
    Shards,
    StoryCard,
    SubjectCard,
    mean_bold,
    open_shards,
    run_path,
    story_path,
    targets_path,
)
from wav2bold.datasets.writing import claim, read_metadata, write_run, write_story, write_targets
from wav2bold.errors import DataError, StorageError
from wav2bold.places import Place

STORY = "it's 100% / \u00e9t\u00e9"
CARD = DatasetCard(
    tr_s=1.5,
    space="fsaverage5",
    subjects={"sub-01": SubjectCard(3, {STORY: 2})},
    stories={STORY: StoryCard(61.0, "abc")},
    cleaning={"detrend": True},
    inputs={"sub-01/func/x.nii.gz": "def"},
    libraries={"numpy": "2"},
    digest="123",
)


def recording(volumes: int, seed: int) -> Bold:
    t = np.arange(volumes, dtype=np.int32)
    y = np.random.default_rng(seed).standard_normal((volumes, 3)).astype(np.float32)
    return Bold(t, 1.5 * t - 3.0, y)


@pytest.fixture
def shards(out: Place) -> Shards:
    claim(out)
    sound = np.random.default_rng(0).standard_normal(61 * 16_000).astype(np.float32)
    write_story(story_path(out, STORY), sound, {"digest": "a"})
    for repeat in (1, 2):
        write_run(run_path(out, "sub-01", STORY, repeat), recording(9 + repeat, repeat), "float32", {})
    write_targets(targets_path(out, "sub-01"), pd.DataFrame({"target": [0, 1, 2]}), {})
    (out / "dataset.json").write_text(CARD.to_json())
    return open_shards(out)


def test_what_was_written_is_read_whatever_its_name(shards: Shards) -> None:
    assert shards.card == CARD
    sound = np.random.default_rng(0).standard_normal(61 * 16_000).astype(np.float32)
    np.testing.assert_array_equal(shards.audio(STORY), sound)
    for repeat, bold in enumerate(shards.repeats("sub-01", STORY), start=1):
        for field in ("t", "time_s", "y"):
            np.testing.assert_array_equal(getattr(bold, field), getattr(recording(9 + repeat, repeat), field))
    assert list(shards.targets("sub-01")["target"]) == [0, 1, 2]
    assert read_metadata(story_path(shards.root, STORY)) == {"digest": "a"}


def test_opened_shards_travel_to_other_processes(shards: Shards) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards)).audio(STORY), shards.audio(STORY))


def test_a_mean_is_over_the_volumes_that_all_have() -> None:
    one, two = recording(10, 1), recording(12, 2)
    late = replace(two, t=two.t + 2, time_s=two.time_s + 3.0)  # its first two volumes are missing
    mean = mean_bold([one, late])
    np.testing.assert_array_equal(mean.t, np.arange(2, 10))
    np.testing.assert_array_equal(mean.time_s, 1.5 * np.arange(2, 10) - 3.0)
    np.testing.assert_allclose(mean.y, (one.y[2:] + two.y[:8]) / 2, rtol=1e-6)


def test_reading_loads_no_ray_nor_imaging() -> None:
    code = (
        "import sys, wav2bold.datasets.shards\n"
        "heavy = {'ray', 'nibabel', 'nilearn', 'mlflow', 'torch', 'sklearn', 'upath', 'fsspec', 's3fs'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_answered_with_known_ones(shards: Shards) -> None:
    with pytest.raises(DataError, match="no subject sub-02; there are sub-01"):
        shards.targets("sub-02")
    with pytest.raises(DataError) as caught:
        shards.audio("alice")
    assert caught.value.what.endswith("no story alice")
    assert STORY in caught.value.cure
    with pytest.raises(DataError, match="sub-01 did not hear a story alice"):
        shards.bold("sub-01", "alice")


def test_what_is_not_ours_is_refused(out: Place) -> None:
    with pytest.raises(DataError, match=r"holds no shards \(no dataset.json\); run `wav2bold prepare` first"):
        open_shards(out)
    if isinstance(out, Path):
        out.mkdir()
    (out / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="was not written by wav2bold"):
        open_shards(out)
    (out / "dataset.json").write_text(replace(CARD, schema_version=99).to_json())
    with pytest.raises(DataError, match="has schema 99, this wav2bold reads 1"):
        open_shards(out)


def test_a_missing_or_damaged_shard_is_named(shards: Shards) -> None:
    path = run_path(shards.root, "sub-01", STORY, 2)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        DataError, match=r"run-2.parquet: can't be read .*delete it and run `wav2bold prepare`"
    ):
        shards.bold("sub-01", STORY)
    assert read_metadata(path) == {}
    path.unlink()
    with pytest.raises(DataError, match=r"run-2.parquet: missing; run `wav2bold prepare` again"):
        shards.bold("sub-01", STORY)


def test_a_failed_write_leaves_what_was_there(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    path = story_path(shards.root, STORY)
    before = path.read_bytes()

    def full_disk(table: object, where: IO[bytes], **options: object) -> None:
        where.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises((OSError, StorageError), match="No space left"):
        write_story(path, np.ones(5, np.float32), {})
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == [path.name]

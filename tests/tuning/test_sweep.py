"""What can't be searched is refused before anything is started or written."""

from pathlib import Path

import pytest
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech

from wav2bold.config import Configuration, Split, Study
from wav2bold.errors import DataError
from wav2bold.tuning.sweep import sweep

STORIES = ("bakery", "ferry", "library")


def test_people_who_can_not_share_a_head_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bold = noise_listeners(STORIES, 12.0, 1.0, {"sub-001": 3, "sub-002": 2, "sub-003": 3})
    on_disk(tmp_path / "shards", {story: speech(12.0, 0) for story in STORIES}, bold, 1.0)
    study = Study(
        name="shared",
        shards=tmp_path / "shards",
        encoder=str(save_small_wav2vec2(tmp_path / "encoder")),
        split=Split(validation=("ferry",), test=("library",)),
        results=tmp_path / "results",
        configuration=Configuration(head="shared"),
    )
    with pytest.raises(DataError, match="sub-001 and sub-002 differ: they have 3 and 2 targets; set"):
        sweep(study)
    assert not study.results.exists()

    def begun(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("wav2bold.tuning.sweep.connected", begun)
    for other in ({"subjects": ("sub-001", "sub-003")}, {"configuration": Configuration()}):
        with pytest.raises(InterruptedError):
            sweep(study.model_copy(update=other))

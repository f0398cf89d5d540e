"""A source is read as what it is, or as the user says."""

from pathlib import Path

import pytest
from published import bids_series, lebel, narratives
from recordings import add_story, add_volumes, noise
from typer.testing import CliRunner

from wav2bold import cli
from wav2bold.datasets.layouts.known import find
from wav2bold.errors import DataError


def refusal(source: Path, layout: str | None = None, space: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        find(source, layout, space)
    assert caught.value.cure
    return str(caught.value)


def test_a_layout_may_be_named(tmp_path: Path) -> None:
    source = lebel(tmp_path).source
    assert find(source).layout == "lebel"
    assert refusal(source, "bids").startswith(f"{source}: no recordings found; looked for sub-*")
    table = source / "code" / "event_meta.json"
    assert refusal(source, "narratives") == f"{table}: no such file; fetch the collection's code folder"
    other = bids_series(tmp_path / "bids").source
    assert "no recordings found; looked for derivative/" in refusal(other, "lebel")


def test_a_misspelt_layout_is_told(tmp_path: Path) -> None:
    message = "--layout narrative: there are manifest, narratives, lebel, bids; did you mean narratives?"
    assert refusal(tmp_path, "narrative") == message
    assert refusal(tmp_path, "zzz").endswith("; name one of them")


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    cure = "; give a folder of recordings, or a manifest (.tsv)"
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no such folder{cure}"
    (tmp_path / "runs.csv").touch()
    assert refusal(tmp_path / "runs.csv") == f"{tmp_path / 'runs.csv'}: is a file and no .tsv{cure}"


def test_recordings_that_lack_the_space_are_left_out_and_told(tmp_path: Path) -> None:
    source = bids_series(tmp_path).source
    add_story(source, "story9")
    add_volumes(source, noise(2, 2, 2, 10), "sub-09", "story9")
    assert find(source, space="fsLR_den-91k").left_out == (
        "1 of 7 recordings left out: they are not in space fsLR_den-91k",
    )


def test_prepare_says_what_it_found_and_what_it_left_out(tmp_path: Path) -> None:
    source = narratives(tmp_path / "ds002345").source
    out = tmp_path / "work" / "shards"
    words = ["prepare", str(source), "--out", str(out), "--layout", "narratives", "--space", "fsaverage6"]
    (out.parent).mkdir()
    (out.parent / "study.yaml").write_text(
        "name: x\nshards: shards\nencoder: none\nsplit: {validation: [pieman], test: [piemanpni]}\n"
        "cleaning: {high_pass_s: null}\n"
    )
    result = CliRunner().invoke(cli.app, [*words, "--cpus", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "narratives: 6 recordings in space fsaverage6"
    assert lines[1].startswith("3 recordings left out, as code/scan_exclude.json says: ")
    assert lines[-1].startswith("5 subjects, 4 stories: 15 shards written, 0 kept, 0 removed. ")

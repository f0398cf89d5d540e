"""The report's section on speech tasks says what the scores say, whatever encoders there are."""

import io
import json
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from parsed import Parsed

from wav2bold.config import Configuration
from wav2bold.errors import DataError
from wav2bold.evaluation.superb_listing import as_json, rows_of
from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.report.page import render
from wav2bold.report.superb_section import spoken_rows, state_numbers, superb_numbers
from wav2bold.trainables.superb.protocol import Score
from wav2bold.tuning.superb import Benchmark
from wav2bold.tuning.superb_kept import superb_scores

RIGHT = {
    "facebook/wav2vec2-base": 0.60,
    "refined/sub-001": 0.75,
    "refined/sub-002": 0.72,
    "pretrained/sub-001": 0.66,
    "pretrained/sub-002": 0.50,
}
"""Share of right answers by encoder."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Score]]:
    """Of one encoder as it came, two refined ones and the controls of both, in folders as `refine` names."""
    root = tmp_path_factory.mktemp("results")
    found = {}
    for seed, (name, right) in enumerate(RIGHT.items()):
        encoder = name
        if not name.startswith("facebook"):
            folder = root / name
            folder.mkdir(parents=True)
            (folder / "refined.json").write_text(json.dumps({"origin": {"subject": folder.name}}))
            kind = "pretrain" if name.startswith("pretrained") else "brain"
            Configuration(objective=kind).save(folder / "config.yaml", "as refine writes it")
            encoder = str(folder)
        found[encoder] = {
            task: made_up.superb_score(task, right, 10 * seed + n) for n, task in enumerate(("ks", "asr"))
        }
    return found


def test_changes_are_against_the_encoder_as_it_came_and_the_same_subjects_control(
    scores: dict[str, dict[str, Score]],
) -> None:
    rows = {(row.task, "/".join(row.encoder.split("/")[-2:])): row for row in spoken_rows(scores)}
    kinds = ["unrefined", *["refined"] * 2, *["stimuli alone"] * 2]
    assert [rows["ks", name].kind for name in RIGHT] == kinds
    base = rows["ks", "facebook/wav2vec2-base"]
    assert base.since_unrefined is None
    assert base.since_control is None
    for name in list(RIGHT)[1:]:
        row = rows["ks", name]
        assert row.since_unrefined == utterance_interval(row.score, base.score)
        assert row.since_unrefined.value == pytest.approx(RIGHT[name] - 0.60)
    for subject, gained in (("sub-001", 0.75 - 0.66), ("sub-002", 0.72 - 0.50)):
        found = rows["ks", f"refined/{subject}"].since_control
        assert found.value == pytest.approx(gained)
        assert found.low < gained < found.high
        assert rows["ks", f"pretrained/{subject}"].since_control is None


def test_without_a_control_or_an_unrefined_encoder_there_is_no_change(
    scores: dict[str, dict[str, Score]],
) -> None:
    refined = [name for name in scores if "/refined/" in name]
    for row in spoken_rows({name: scores[name] for name in refined}):
        assert row.since_unrefined is None
        assert row.since_control is None
    lone = {refined[0]: scores[refined[0]], **{n: scores[n] for n in scores if "pretrained/sub-002" in n}}
    row = spoken_rows(lone)[0]
    assert row.since_control.value == pytest.approx(0.75 - 0.50), "another subject's heard the same stories"


@pytest.fixture(scope="module")
def html(scores: dict[str, dict[str, Score]]) -> str:
    return render(replace(made_up.findings(), superb=scores))


def test_another_metric_of_the_same_heads_has_rows_of_its_own_and_no_curves(
    scores: dict[str, dict[str, Score]],
) -> None:
    also = {
        encoder: {
            "ks": replace(
                own["ks"], beside=(replace(own["ks"], metric="another", wholes=2 * own["ks"].wholes),)
            )
        }
        for encoder, own in scores.items()
    }
    rows = spoken_rows(also)
    told = {(row.encoder, row.score.metric): row for row in rows}
    assert len(told) == len(rows) == 2 * len(scores)
    for encoder, own in scores.items():
        plain, other = told[encoder, own["ks"].metric], told[encoder, "another"]
        assert other.score.value == pytest.approx(plain.score.value / 2)
        if plain.since_unrefined is not None:
            assert other.since_unrefined is not None
            assert other.since_unrefined.value == pytest.approx(plain.since_unrefined.value / 2)
    assert len(state_numbers(rows)) == len(scores) * made_up.STATES


def test_the_page_has_each_score_its_changes_and_what_each_task_reads(
    html: str, scores: dict[str, dict[str, Score]]
) -> None:
    page = Parsed(html)
    table = next(table for table in page.tables if "Against unrefined" in table[0])
    assert len(table) == 2 + 2 * len(RIGHT)
    rows = {(row[0].split()[0], row[1]): row[2:] for row in table[2:]}
    for name, right in RIGHT.items():
        cells = rows["asr", name]
        assert float(cells[1]) == pytest.approx(100 * right)
        low, high = map(float, cells[2].split(" to "))
        assert low < 100 * right < high
    assert rows["ks", "refined/sub-001"][3] == "+15.000"
    assert rows["ks", "refined/sub-001"][5] == "+9.000"
    assert "updates 300 of 200,000" in page.text
    titles = [line for line in html.split("<title ") if line.startswith('id="superb-')]
    assert len(titles) == 4
    assert all("unrefined, refined, stimuli alone" in title for title in titles)
    assert "arxiv.org/abs/2105.01051" in html


def test_the_numbers_are_the_scores_weights_and_lengths(scores: dict[str, dict[str, Score]]) -> None:
    rows = spoken_rows(scores)
    table = pd.read_csv(io.StringIO(superb_numbers(rows).to_csv(index=False)))
    assert table.query("task == 'ks'")["score"].tolist() == pytest.approx(list(RIGHT.values()))
    states = state_numbers(rows)
    assert len(states) == 2 * len(RIGHT) * made_up.STATES
    for (_, _), own in states.groupby(["task", "encoder"]):
        added = own["weight"] * own["mean_length"]
        np.testing.assert_allclose(own["share"], added / added.sum())


def test_a_page_without_such_scores_says_nothing_of_speech_tasks() -> None:
    assert "SUPERB" not in render(made_up.findings())


def test_scores_are_read_back_from_their_folder_in_the_tables_order(
    scores: dict[str, dict[str, Score]], tmp_path: Path
) -> None:
    benchmark = Benchmark(tuple(scores), ("ks", "asr"), tmp_path, tmp_path, options=None)
    for encoder, own in scores.items():
        for task, one in own.items():
            place = benchmark.folder(encoder) / task / "result.json"
            place.parent.mkdir(parents=True)
            place.write_text(json.dumps({"identity": {}, "score": one.to_json()}))
    (tmp_path / "results.json").write_text(as_json(rows_of(scores)))
    found = superb_scores(tmp_path)
    assert list(found) == list(scores)
    for encoder, own in found.items():
        assert {task: one.to_json() for task, one in own.items()} == {
            task: one.to_json() for task, one in scores[encoder].items()
        }


def test_a_folder_without_scores_and_an_encoder_that_is_gone_are_named(
    scores: dict[str, dict[str, Score]], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"can't be read as scores of SUPERB .*; give the --out folder of"):
        superb_scores(tmp_path)
    gone = {str(tmp_path / "gone"): next(iter(scores.values()))}
    with pytest.raises(DataError, match=r"gone: no such folder, of which there are SUPERB scores; put it"):
        spoken_rows(gone)

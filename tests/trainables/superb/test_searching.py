"""Query by example: what fits is found, by the definitions, and a killed search goes on."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import corpora
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance
from torch import nn

from wav2bold.errors import DataError
from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import qbe, searching
from wav2bold.trainables.superb.protocol import Options, Score, score_from
from wav2bold.trainables.superb.scoring import score_tasks
from wav2bold.trainables.superb.statistic import mtwv
from wav2bold.trainables.superb.subsequence import fits
from wav2bold.trainables.superb.tasks import check_needs, heard_together

BETA = 12.49
"""(1 - 0.0008) / (100 * 0.0008)."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(corpora.save_hearer(tmp_path_factory.mktemp("encoder"), seed=1)))


@pytest.fixture(scope="module", autouse=True)
def blocks_of_four() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "DOCUMENTS_IN_FILE", 4)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    corpora.quesst14(root, documents=16)
    return root


@pytest.fixture(scope="module")
def scored(encoder: Encoder, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Score, Path]:
    out = tmp_path_factory.mktemp("out")
    score, kept = score_tasks(encoder, ["qbe"], data, out, ActivationStore(out / "store"), Options())["qbe"]
    assert not kept
    return score, out / "qbe"


def brute_mtwv(sure: np.ndarray, true: np.ndarray, unit: np.ndarray) -> float:
    """The best term-weighted value over all thresholds, each by its definition, for queries by number."""
    values = []
    for threshold in [*np.unique(sure), np.inf]:
        terms = []
        for query in np.unique(unit):
            own = unit == query
            found = sure[own] >= threshold
            missed = (~found & true[own]).sum() / true[own].sum()
            wrong = (found & ~true[own]).sum() / max((~true[own]).sum(), 1)
            terms.append(missed + BETA * wrong)
        values.append(1 - np.mean(terms))
    return max(values)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_mtwv_is_the_best_value_over_all_thresholds_for_every_draw(seed: int) -> None:
    random = np.random.default_rng(seed)
    queries, documents = random.integers(1, 6), random.integers(1, 15)
    true = random.random((queries, documents)) < 0.3
    true[:, 0] = True
    # few digits: scores of true and untrue documents are often equal
    sure = np.round(random.standard_normal((queries, documents)) + 2 * true, random.integers(0, 3))
    unit = np.repeat(np.arange(queries), documents)
    counts = random.multinomial(queries, np.full(queries, 1 / queries), size=4).astype(np.float32)
    values = mtwv(sure.ravel(), true.ravel().astype(float), unit, counts)
    for value, count in zip(values, counts.astype(int), strict=True):
        drawn = np.repeat(np.arange(queries), count)
        truth = brute_mtwv(
            sure[drawn].ravel(), true[drawn].ravel(), np.repeat(np.arange(len(drawn)), documents)
        )
        assert value == pytest.approx(truth, abs=1e-9)


def test_a_querys_fit_is_its_cheapest_alignment_by_the_definition() -> None:
    random = np.random.default_rng(0)
    frames = 5
    query, other, document = (random.standard_normal((length, 4)) for length in (frames, 4, 6))
    vectors = [
        nn.functional.normalize(torch.from_numpy(one).float(), dim=1) for one in (query, other, document)
    ]
    told = fits(torch.cat(vectors[:2]), np.array([0, frames, frames + 4]), vectors[2])
    costs = np.expm1(distance.cdist(query, document, "cosine"))
    low, high = costs.min(1, keepdims=True), costs.max(1, keepdims=True)
    costs = (costs - low) / (high - low)
    paths = [np.cumsum(path) for path in product(range(6), *[range(3)] * (frames - 1))]
    means = [np.mean(costs[np.arange(frames), path]) for path in paths if path[-1] < 6]
    assert told[0] == pytest.approx(-min(means), abs=1e-6)
    assert told[1] == 0, "less than 5 frames"


def test_a_query_cut_from_a_document_fits_there_at_no_cost() -> None:
    random = np.random.default_rng(0)
    one, other = (
        nn.functional.normalize(torch.from_numpy(random.random((40, 16))).float(), dim=1) for _ in "ab"
    )
    starts = np.array([0, 10])
    assert fits(one[12:22], starts, one)[0] == pytest.approx(0, abs=1e-5)
    assert fits(one[12:22], starts, other)[0] < -0.05


def test_phrases_are_found_much_better_than_by_chance(scored: tuple[Score, Path]) -> None:
    score, _ = scored
    random = np.random.default_rng(0)
    chance = [replace(score, parts=random.permutation(score.parts)).value for _ in range(200)]
    assert score.value > 0.3
    assert np.mean(chance) < 0.05
    assert np.quantile(chance, 0.99) < score.value
    interval = utterance_interval(score)
    assert interval.low < score.value < interval.high


def test_the_state_that_finds_the_dev_set_best_is_the_one_that_is_tested(
    scored: tuple[Score, Path], encoder: Encoder
) -> None:
    score, _ = scored
    (dev,) = score.dev
    assert list(dev) == list(range(encoder.layers + 1))
    state = max(dev, key=dev.__getitem__)
    assert score.weights.tolist() == [float(one == state) for one in dev]
    assert score.chosen == f"state {state:g}"
    assert score.rates == ()
    assert score_from(score.to_json()).to_json() == score.to_json()


def test_features_are_scaled_over_queries_and_documents_and_scores_over_documents(
    scored: tuple[Score, Path], encoder: Encoder, data: Path
) -> None:
    score, _ = scored
    asked = qbe.read(data)
    state = int(score.weights.argmax())
    queries, documents = (
        [searching._states(encoder, clip)[state].double().numpy() for clip in clips]
        for clips in (asked.test.clips, asked.documents)
    )
    frames = np.concatenate([*queries, *documents])
    mean, spread = frames.mean(0), frames.std(0, ddof=1)
    row = next(number for number, occurs in enumerate(asked.test.occurs) if occurs.any())
    query = torch.from_numpy((queries[row] - mean) / spread).float()
    told = [
        fits(
            nn.functional.normalize(query, dim=1),
            np.array([0, len(query)]),
            nn.functional.normalize(torch.from_numpy((one - mean) / spread).float(), dim=1),
        )[0]
        for one in documents
    ]
    truth = (told - np.mean(told)) / np.std(told)
    assert score.parts[: len(documents)] == pytest.approx(truth, abs=2e-3)


def test_a_killed_search_goes_on_to_the_same_and_is_then_kept(
    scored: tuple[Score, Path], encoder: Encoder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Path] = []
    states = searching._states

    def killed(encoder: Encoder, clip: object) -> torch.Tensor:
        heard.append(clip.path)
        if len(heard) == killing:
            raise KeyboardInterrupt
        return states(encoder, clip)

    monkeypatch.setattr(searching, "_states", killed)
    store = ActivationStore(tmp_path / "store")
    asked = qbe.read(data)
    queries, documents = len(asked.dev.clips) + len(asked.test.clips), len(asked.documents)
    killing = queries + documents + 6
    with pytest.raises(KeyboardInterrupt):
        score_tasks(encoder, ["qbe"], data, tmp_path, store, Options())
    killing, heard[:] = 0, []
    again, _ = score_tasks(encoder, ["qbe"], data, tmp_path, store, Options())["qbe"]
    assert len(heard) == queries + documents - 4, "a block of four was searched"
    assert again.to_json() == scored[0].to_json()
    heard.clear()
    kept, was_kept = score_tasks(encoder, ["qbe"], data, tmp_path, store, Options(updates=7))["qbe"]
    assert was_kept, "there is no head that updates could train"
    assert not heard
    assert kept.to_json() == again.to_json()


def test_the_data_sets_scorer_gets_every_pair_of_both_sets(scored: tuple[Score, Path], data: Path) -> None:
    score, folder = scored
    asked = qbe.read(data)
    for part, queries in zip(("dev", "eval"), (asked.dev, asked.test), strict=True):
        (path,) = (folder / part).glob("*.stdlist.xml")
        root = ET.parse(path).getroot()
        terms = {one.get("termid"): one for one in root}
        assert root.tag == "stdlist"
        assert list(terms) == list(queries.names)
        for one in terms.values():
            assert [term.get("file") for term in one] == [clip.path.stem for clip in asked.documents]
            for term in one:
                assert (term.get("decision") == "YES") == (float(term.get("score", "")) > 2)
    sures = [float(term.get("score", "")) for name in dict.fromkeys(score.unit) for term in terms[str(name)]]
    assert sures == pytest.approx(score.parts.tolist(), abs=1e-9)


def test_english_queries_and_recordings_are_those_of_the_lists(data: Path) -> None:
    asked = qbe.read(data)
    root = data / "quesst14Database"
    for name, clips in (
        ("utterances", asked.documents),
        ("dev", asked.dev.clips),
        ("eval", asked.test.clips),
    ):
        lines = (root / "scoring" / f"language_key_{name}.lst").read_text().splitlines()
        english = [line.split()[0] for line in lines if line.endswith(" nnenglish")]
        assert len(english) == len(lines) - 1
        assert [f"quesst14Database/{clip.path.relative_to(root)}" for clip in clips] == english
        assert {clip.gain for clip in clips} == {10 ** (-3 / 20)}
    assert not set(asked.dev.names) & set(asked.test.names)
    assert asked.dev.occurs.shape == (len(asked.dev.clips), 15)
    text = (root / "scoring/groundtruth_quesst14_dev/quesst14_dev.rttm").read_text()
    for query, own in zip(asked.dev.names, asked.dev.occurs, strict=True):
        for clip, occurs in zip(asked.documents, own, strict=True):
            assert occurs == (f"LEXEME {clip.path.stem} 1 0.00 1.00 {query} " in text)
    assert not asked.dev.occurs[-1].any(), "a query that is nowhere"
    units, _, _ = searching.trials(asked.dev, np.zeros(asked.dev.occurs.shape))
    assert asked.dev.names[-1] not in units
    assert heard_together(["qbe", "asr", "pr"]) == [("qbe",), ("asr", "pr")]


def test_what_is_missing_gets_a_line_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^qbe: there is no .*utterances\.lst; unpack https://speech\.fit"):
        check_needs(["qbe"], tmp_path)
    corpora.quesst14(tmp_path, documents=4)
    check_needs(["qbe"], tmp_path)
    listed = tmp_path / "quesst14Database/scoring/language_key_dev.lst"
    whole = listed.read_text()
    listed.write_text("quesst14Database/dev_queries/a.wav\n")
    with pytest.raises(DataError, match=r"language_key_dev\.lst: line 1 is no path and language: quesst14Da"):
        qbe.read(tmp_path)
    listed.write_text("quesst14Database/dev_queries/a.wav czech\n")
    with pytest.raises(DataError, match=r"language_key_dev\.lst: names no sound in nnenglish; unpack"):
        qbe.read(tmp_path)
    listed.write_text(whole)
    truth = tmp_path / "quesst14Database/scoring/groundtruth_quesst14_dev/quesst14_dev.rttm"
    truth.write_text("")
    with pytest.raises(DataError, match="none of the dev set's queries is in any recording"):
        qbe.read(tmp_path)
    (tmp_path / "quesst14Database/Audio/quesst14_00001.wav").unlink()
    with pytest.raises(DataError, match=r"quesst14_00001\.wav: no such file; unpack"):
        qbe.read(tmp_path)

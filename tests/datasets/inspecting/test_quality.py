"""The quality page shows the shards' numbers, a bounded number of people, and asks nothing of anybody."""

import re
from pathlib import Path

import numpy as np
import pytest
from crowds import FOLLOWS, TR_S, crowd
from parsed import Parsed

from wav2bold.datasets.inspecting.charts import staggered
from wav2bold.datasets.inspecting.inspection import inspect
from wav2bold.datasets.inspecting.quality import render
from wav2bold.datasets.inspecting.standouts import best_targets, group_mean, shown_runs, shown_subjects
from wav2bold.datasets.shards import Shards
from wav2bold.errors import DataError
from wav2bold.pages.painter import Painter


def page_of(shards: Shards) -> tuple[str, Parsed]:
    with Painter() as painter:
        html = render(shards, inspect(shards), painter)
    return html, Parsed(html)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    root = tmp_path_factory.mktemp("few") / "shards"
    return crowd(root, 3, 3, lengths={(0, 0): [60, 60], (1, 2): []}, tsnr=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    root = tmp_path_factory.mktemp("many") / "shards"
    odd = {(2, 0): [40], (3, 1): []}
    return crowd(root, 14, 8, lengths=odd, widths={5: 10}, ceilings={9: 0.2}, space="MNI152NLin6Asym")


@pytest.fixture(scope="module")
def few_page(few: Shards) -> tuple[str, Parsed]:
    return page_of(few)


@pytest.fixture(scope="module")
def many_page(many: Shards) -> tuple[str, Parsed]:
    return page_of(many)


def test_tables_hold_the_recordings_of_a_few(few_page: tuple[str, Parsed]) -> None:
    _, page = few_page
    stories, subjects = ({row[0]: row[1:] for row in table} for table in page.tables)
    assert stories["story1"] == ["90.0", "2 \N{MULTIPLICATION SIGN} 60", "60", "60"]
    assert stories["story3"] == ["90.0", "60", "\N{EN DASH}", "60"]
    assert subjects["sub-1"] == ["3", "4", "240", "360", "20", "0.300", "49.5"]
    assert "3 subjects, 3 stories, 9 recordings: 540 volumes, 13 min 30 s" in page.text


@pytest.mark.parametrize("which", ["few_page", "many_page"])
def test_page_asks_nothing_of_the_network(which: str, request: pytest.FixtureRequest) -> None:
    html, page = request.getfixturevalue(which)
    page.is_self_contained(html)
    assert "http" not in html.replace("http-equiv", "")
    assert len(html) < 3_000_000


def test_every_subject_of_a_few_is_drawn_and_described(few_page: tuple[str, Parsed]) -> None:
    html, page = few_page
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert [attrs["alt"] for attrs in images] == [
        *(f"Noise ceiling of sub-{n}, mean {0.3 + 0.0005 * (n - 1):.3g}" for n in (1, 2, 3)),
        *(f"tSNR of sub-{n}, mean {49.5 + n - 1:.3g}" for n in (1, 2, 3)),
    ]
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    charts = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(charts) == 2 + 3
    assert all(attrs["aria-labelledby"] in ids for attrs in charts)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", html), re.IGNORECASE)


def test_the_lag_that_was_put_in_is_told(few_page: tuple[str, Parsed]) -> None:
    _, page = few_page
    for name in ("sub-1", "sub-2", "sub-3"):
        assert f"{FOLLOWS * TR_S:.1f} s in {name}" in page.text
    assert "the tenth of targets with the highest noise ceiling" in " ".join(page.text.split())


def test_many_are_shown_as_a_group_with_the_few_that_stand_out(
    many: Shards, many_page: tuple[str, Parsed]
) -> None:
    _, page = many_page
    shown = {one.name: one.why for one in shown_subjects(inspect(many))}
    assert next(iter(shown.values())) == "like most others"
    assert list(shown)[1:] == ["sub-03", "sub-04", "sub-06"]
    assert shown["sub-06"] == "has 10 targets, the median is 20"
    titles = [f"Carpet plot of {name}" for name in shown]
    assert all(title in page.text for title in titles)
    assert page.text.count("Carpet plot of") == len(shown)
    images = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
    assert len(images) == 1
    assert str(images[0]).startswith("Noise ceiling of Mean of 14")
    assert "6 of 8 recordings" in page.text
    assert "sub-10: has a mean ceiling of 0.15, far below the others" in page.text


def test_what_is_absent_is_said(many_page: tuple[str, Parsed], tmp_path: Path) -> None:
    assert "don't say the tSNR" in many_page[1].text
    bare = crowd(tmp_path / "s", 1, 2, ceilings={0: np.nan}, space="T1w")
    table = bare.targets("sub-1").assign(ceiling=np.float32("nan"))
    table.to_parquet(bare.root / "targets" / "subject=sub-1.parquet")
    html, page = page_of(bare)
    assert "No target has a noise ceiling" in page.text
    assert "No story was heard twice, neither by one person nor by two." in page.text
    assert not any(tag == "img" for tag, _ in page.elements)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", html), re.IGNORECASE)
    native = crowd(tmp_path / "t", 1, 2, space="T1w")
    assert "no brain at hand on which targets of the space T1w" in page_of(native)[1].text


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({(0, 1): [60, 60]}, "Somebody heard story2 more than once, but that was not used, or told none"),
        ({}, "Nobody heard a story twice, and no two people who heard the same one could be compared"),
        ({(0, 0): [], (1, 1): []}, "No story was heard twice, neither by one person nor by two"),
    ],
)
def test_why_there_is_no_ceiling_is_no_more_than_the_shards_tell(
    lengths: dict[tuple[int, int], list[int]], said: str, tmp_path: Path
) -> None:
    shards = crowd(tmp_path / "s", 2, 2, lengths=lengths, space="T1w")
    for subject in shards.card.subjects:
        table = shards.targets(subject).assign(ceiling=np.float32("nan"))
        table.to_parquet(shards.root / "targets" / f"subject={subject}.parquet")
    assert said in page_of(shards)[1].text


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 1, 2)
    facts = inspect(shards)
    (shards.root / "bold" / "subject=sub-1" / "story=story2" / "run-1.parquet").unlink()
    said = r"run-1.parquet: missing; run `wav2bold prepare` again"
    with Painter() as painter, pytest.raises(DataError, match=said):
        render(shards, facts, painter)


def test_odd_recordings_are_drawn_before_others(tmp_path: Path) -> None:
    facts = inspect(crowd(tmp_path / "s", 5, 9, lengths={(0, 8): [40], (0, 1): [60, 60]}, recorded=False))
    runs = shown_runs(facts, facts.subjects[0])
    assert runs == [
        ("story1", 0), ("story2", 0), ("story2", 1), ("story3", 0), ("story4", 0), ("story9", 0)
    ]  # fmt: skip


def test_group_mean_is_over_those_who_have_the_target(tmp_path: Path) -> None:
    shards = crowd(tmp_path / "s", 40, 1, widths={3: 10}, tsnr=True, recorded=False)
    names = list(shards.card.subjects)
    mean = group_mean(shards.target_table, names, ["ceiling", "tsnr"]).set_index(["hemisphere", "vertex"])
    tables = [shards.targets(name).set_index(["hemisphere", "vertex"]) for name in names]
    assert len(mean) == 20
    for place, row in mean.iterrows():
        there = [table.loc[place] for table in tables if place in table.index]
        assert len(there) == (40 if place[1] < 205 else 39)
        for column in ("ceiling", "tsnr"):
            assert row[column] == pytest.approx(np.mean([one[column] for one in there]), rel=1e-6)


def test_labels_that_would_run_into_one_before_them_stand_lower() -> None:
    labels = ["story1\n40 volumes", "story2\n200 volumes", "story3\n200 volumes", "end"]
    assert staggered(labels, [10.0, 60.0, 160.0, 170.0]) == [
        labels[0], "\n\n" + labels[1], labels[2], "\n" + labels[3]
    ]  # fmt: skip
    assert staggered(["a", "b", "c"], [0.0, 1.0, 2.0]) == ["a", "\nb", "\n\nc"]


def test_best_targets_are_those_of_the_highest_ceiling(few: Shards) -> None:
    table = few.targets("sub-1")
    assert best_targets(table).tolist() == list(range(10))
    assert best_targets(table.assign(ceiling=np.nan)).tolist() == list(range(20))
    assert best_targets(table.assign(ceiling=np.arange(20.0)), least=1).tolist() == [18, 19]


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    html, page = page_of(
        crowd(tmp_path / "s", 2, 2, named=("sub-\N{LATIN SMALL LETTER E WITH ACUTE}$", "<b>[i]$_$ & "))
    )
    assert "<b>" not in html
    assert "<b>[i]$_$ & 1" in page.text
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))

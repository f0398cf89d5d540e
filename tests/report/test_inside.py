"""What is told of an encoder's inside is what its folder, its parameters and its scores say."""

import base64
import dataclasses
import gzip
import io
import json
import math
import re
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes
from parsed import Parsed
from safetensors.numpy import save_file
from scipy import stats
from small_encoders import LAYERS, save_small

from wav2bold.config import Configuration
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.evaluation.intervals import Interval
from wav2bold.pages.numbers import numbers
from wav2bold.report import change_map as drawing
from wav2bold.report import layer_pictures
from wav2bold.report.change_map import change_map
from wav2bold.report.findings import Findings
from wav2bold.report.flow import flow, flow_table
from wav2bold.report.inside import Inside, inside_of, mean_changes
from wav2bold.report.layer_pictures import highest, layer_table, shown_regions
from wav2bold.report.page import render
from wav2bold.trainables.changes import changes
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.parameter_types import parameter_type
from wav2bold.trainables.reading import trained_whole
from wav2bold.tuning.heat_map import percent


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("encoder"), "wav2vec2-base")))


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Of targets that nobody can draw on a brain, which would take longer than all else here."""
    return made_up.findings(2, "T1w", 280, 2)


def of(encoder: Encoder, chosen: Configuration) -> Findings:
    """Findings of a study that refined this encoder so; nothing of it is drawn on brains."""
    found = made_up.findings(1, "T1w", 20, 1)
    inside = Inside(
        changes(encoder.model, encoder.model).to_pandas().astype({"layer": "Int64"}), None, (48, 20)
    )
    trial = dataclasses.replace(found.trials[0], configuration=chosen)
    return dataclasses.replace(found, trials=(trial,), inside={"sub-001": inside})


def test_a_folder_tells_its_head_its_weights_and_what_moved(encoder: Encoder, tmp_path: Path) -> None:
    table = changes(encoder.model, encoder.model)
    pq.write_table(table, tmp_path / "changes.parquet")
    save_file({"weight": np.zeros((48, 7), np.float32)}, tmp_path / "head.safetensors")
    (tmp_path / "refined.json").write_text(json.dumps({"layer_weights": [0.1, 0.2, 0.3, 0.4]}))
    told = inside_of(tmp_path)
    assert told.head == (48, 7)
    assert told.layers == LAYERS
    np.testing.assert_allclose(told.layer_weights, [0.1, 0.2, 0.3, 0.4])
    assert told.changes["parameters"].tolist() == table["parameters"].to_pylist()
    (tmp_path / "refined.json").write_text("{}")
    assert inside_of(tmp_path).layer_weights is None


def test_changes_are_means_over_subjects_place_by_place(findings: Findings) -> None:
    means = mean_changes(findings.inside)
    one, two = (inside.changes.set_index(["type", "layer"])["change"] for inside in findings.inside.values())
    assert len(means) == len(one)
    for row in means.itertuples():
        place = (row.type, row.layer)
        assert row.change == pytest.approx((one.loc[[place]].item() + two.loc[[place]].item()) / 2)
    assert means["subjects"].eq(2).all()


def test_the_deeper_a_cell_the_more_moved_and_the_most_is_named(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Axes] = []
    plain = drawing.panel
    monkeypatch.setattr(drawing, "panel", lambda axes, *rest: (seen.append(axes), plain(axes, *rest)))
    means = mean_changes(findings.inside)
    svg = change_map(means)
    filled = [patch for patch in seen[0].patches if patch.get_fill()]
    depth = {(int(patch.get_y()), int(patch.get_x())): patch.get_alpha() for patch in filled}
    top = means["change"].max()
    kinds = list(dict.fromkeys(means["type"]))
    for row in means.itertuples():
        place = (kinds.index(row.type), -1 if pd.isna(row.layer) else int(row.layer))
        assert depth[place] == pytest.approx(row.change / top)
    most = means.loc[means["change"].idxmax()]
    assert f"the largest is {100 * top:.2g}%, of {most.type.replace('_', ' ')}, layer {most.layer}" in svg


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0%"), (0.00123, "0.12%"), (0.134, "13%"), (0.999, "99.9%"), (1.3, "130%"), (25.0, "2,500%")],
)
def test_percents_are_written_out(share: float, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(
    "options",
    [
        {"unfrozen": {"attention": None, "feed_forward": (1, 1)}},
        {"unfrozen": {"conv": None, "layer_norm": None, "bias": (0, 1)}},
        {"unfrozen": {"attention": None, "bias": None}, "layers": (1,)},
    ],
    ids=["ranges", "all", "below what is read"],
)
def test_the_drawing_colours_what_stage_2_trains(encoder: Encoder, options: dict[str, object]) -> None:
    chosen = Configuration(**options)
    found = of(encoder, chosen)
    trained = {parameter_type(name) for name in trained_whole(encoder, chosen)}
    table = flow_table(found)
    told = {
        (kind, None if pd.isna(layer) else int(layer))
        for kind, layer in table.loc[table["refined"] == "yes", ["type", "layer"]].itertuples(index=False)
    }
    assert told == trained
    drawn = flow(found)
    assert drawn is not None
    assert len(drawn.cells) == len(table)
    assert sum(refined for *_, refined in drawn.cells) == len(trained)


def test_adapters_colour_the_layers_that_they_are_in(encoder: Encoder) -> None:
    chosen = Configuration(unfrozen={}, lora={"targets": ("attention",), "layers": (1, 2)})
    table = flow_table(of(encoder, chosen))
    assert table.loc[table["refined"] == "yes", "type"].tolist() == ["attention", "attention"]
    assert table.loc[table["refined"] == "yes", "layer"].tolist() == [1, 2]


def test_the_drawing_has_the_studys_own_numbers(findings: Findings) -> None:
    page = Parsed(render(findings))
    history = findings.winner.configuration.history
    for said in (
        f"{history} TRs of sound ({1.5 * history:g} s) for each volume",
        "linear: 192 features to 280 targets",
        "2 subjects, 0.5 h each, TR 1.5 s",  # five stories of five minutes, one of them twice
        "5 stories, 25 min",
    ):
        assert said in page.text


def test_layers_are_told_by_their_highest_mean_over_subjects() -> None:
    def scored(encoder: str, subject: str, layer: int, value: float) -> LayerScore:
        return LayerScore(encoder, subject, layer, None, Interval(value, math.nan, math.nan))

    scores = [
        scored("frozen", "a", 0, 0.5),
        scored("frozen", "b", 0, 0.1),
        scored("frozen", "a", 1, 0.3),
        scored("frozen", "b", 1, 0.4),
    ]
    ends = stats.ttest_1samp([0.3, 0.4], 0).confidence_interval(0.95)
    assert highest(scores) == (
        "Highest: hidden state 1 of the frozen encoder (0.350, 95% interval "
        f"\N{MINUS SIGN}{-ends.low:.3f} to {ends.high:.3f}; the highest in 1 of 2 subjects)."
    )


def test_the_curves_table_holds_what_is_drawn(findings: Findings) -> None:
    table = layer_table(findings.layers)
    drawn = table[table["subject"] == "mean"].set_index(["encoder", "hidden_state"])
    own = table[table["subject"] != "mean"].groupby(["encoder", "hidden_state"])["score"]
    assert own.size().tolist() == [2] * 6
    for place, values in own:
        ends = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose(
            drawn.loc[place, ["score", "low", "high"]].astype(float), [values.mean(), ends.low, ends.high]
        )
    alone = made_up.findings(1, "T1w", 20, 1)
    assert set(layer_table(alone.layers)["subject"]) == {"sub-001"}


def test_panels_are_those_of_the_regions_that_are_heard_best() -> None:
    values = np.random.default_rng(0).permutation(20) / 20
    scores = [
        LayerScore("frozen", "a", 0, f"region {number}", Interval(value, math.nan, math.nan))
        for number, value in enumerate(values)
    ]
    best = np.argsort(-values)[: layer_pictures.MOST_REGIONS]
    assert shown_regions(scores) == [None, *(f"region {number}" for number in best)]


def test_weights_are_drawn_where_they_are_learnt_and_else_what_is_read_is_said(findings: Findings) -> None:
    plain = Parsed(render(findings)).text
    assert "learns no weights of hidden states: it reads the last hidden state" in plain
    weights = {"sub-001": [0.2, 0.5, 0.3], "sub-002": [0.1, 0.7, 0.2]}
    weighed = {
        name: dataclasses.replace(one, layer_weights=np.array(weights[name]))
        for name, one in findings.inside.items()
    }
    page = Parsed(render(dataclasses.replace(findings, inside=weighed)))
    assert "learns no weights" not in page.text
    assert "0.333 each before training; after it, hidden state 1 has the most, 0.600" in page.text
    (table,) = [one for one in page.numbers if one[0] == ["subject", "hidden state", "before", "after"]]
    means = np.mean(list(weights.values()), axis=0)
    told = [*weights["sub-001"], *weights["sub-002"], *means]
    np.testing.assert_allclose([float(row[3]) for row in table[1:]], told)


def test_figures_are_numbered_in_order_and_each_has_its_numbers(findings: Findings) -> None:
    page = Parsed(render(findings))
    assert re.findall(r"Figure (\d+)\.", page.text) == [str(number + 1) for number in range(9)]
    links = [attrs for tag, attrs in page.elements if tag == "a" and "download" in attrs]
    files = [str(attrs["download"]) for attrs in links]
    assert len(files) == 10  # of nine figures, and of tables 1 and 2
    # two figures of all trials have the same
    assert len(set(files)) == 9 == len(files) - files.count("configurations.csv") + 1


@pytest.mark.parametrize("rows", [3, 20_000])
def test_a_figures_numbers_come_back_as_they_were(rows: int) -> None:
    table = pd.DataFrame({"name": "a, b", "value_r": np.random.default_rng(0).normal(size=rows)})
    shown = numbers("some", table)
    kind, _, content = shown["href"].partition(";base64,")
    raw = base64.b64decode(content)
    assert shown["file"].endswith(".gz") == ("gzip" in kind) == (rows > 3)
    read = pd.read_csv(io.BytesIO(gzip.decompress(raw) if rows > 3 else raw))
    pd.testing.assert_frame_equal(read, table, rtol=1e-5)
    assert len(shown["rows"]) == (3 if rows == 3 else 0)
    assert shown["columns"] == ["name", "value r"]

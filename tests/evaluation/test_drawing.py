"""A picture shows the scores that it was given."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from wav2bold.errors import StudyError
from wav2bold.evaluation import drawing
from wav2bold.evaluation.drawing import draw
from wav2bold.evaluation.evaluated import Scored
from wav2bold.evaluation.intervals import Interval


def scored(
    encoder: str, subject: str, value: float, layer: int | None = None, region: str | None = None
) -> Scored:
    interval = Interval(value, value - 0.02, value + 0.02)
    return Scored(encoder, subject, layer, region, interval, float("nan"), 0.0, 1, 2, 300)


def words(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text())


def test_a_matrix_tells_each_score_in_its_row_and_column(tmp_path: Path) -> None:
    scores = {
        ("/a/refined/sub-001", "sub-001"): 0.211,
        ("/a/refined/sub-001", "sub-002"): 0.152,
        ("/a/refined/sub-002", "sub-001"): 0.133,
        ("/a/refined/sub-002", "sub-002"): 0.274,
    }
    path = tmp_path / "transfer.svg"
    draw([scored(*who, value) for who, value in scores.items()], path)
    told = words(path)
    assert [word for word in told if re.fullmatch(r"0\.\d{3}", word)] == ["0.211", "0.152", "0.133", "0.274"]
    assert [word for word in told if "sub-" in word] == [
        "sub-001", "sub-002", "refined/sub-001", "refined/sub-002",
    ]  # fmt: skip


def test_a_curve_goes_through_the_means_over_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[0.10, 0.20, 0.15], [0.14, 0.30, 0.11]])  # subjects by layers
    scores = [
        scored("frozen", f"sub-00{subject + 1}", value, layer)
        for (subject, layer), value in np.ndenumerate(values)
    ]
    (panel,) = [axes for axes in drawing._layers(scores).axes if axes.lines]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), values.mean(0))
    (band,) = panel.collections
    heights = band.get_paths()[0].vertices[:, 1]
    reach = stats.sem(values, axis=0) * stats.t.ppf(0.975, 1)
    assert heights.max() == pytest.approx((values.mean(0) + reach).max())
    assert heights.min() == pytest.approx((values.mean(0) - reach).min())


def test_each_region_has_a_panel_and_each_encoder_a_name(tmp_path: Path) -> None:
    path = tmp_path / "layers.svg"
    draw(
        [
            scored(encoder, "sub-001", 0.1 * layer, layer, region)
            for encoder in ("base", "refined/sub-001")
            for layer in range(3)
            for region in (None, "A1", "STG", "V1")
        ],
        path,
    )
    told = words(path)
    for word in ("all targets", "A1", "STG", "V1", "base", "refined/sub-001"):
        assert told.count(word) == 1, word


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")])
def test_the_name_of_the_file_tells_the_format(tmp_path: Path, name: str, begins: bytes) -> None:
    draw([scored("base", "sub-001", 0.2)], tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_format_that_cannot_be_drawn_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"scores\.xlsx: pictures are SVG, PNG or PDF; name it scores\.svg"):
        draw([scored("base", "sub-001", 0.2)], tmp_path / "scores.xlsx")
    assert not list(tmp_path.iterdir())

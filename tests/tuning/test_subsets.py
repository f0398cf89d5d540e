"""Subsets of parameters: those of a file, all there are, and what is told of them."""

from pathlib import Path

import pytest
from small_encoders import LAYERS, save_small

from wav2bold.config import PARAMETER_TYPES, Configuration, Lora
from wav2bold.errors import EncoderError, StudyError, UserError
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.parameter_types import parameter_type
from wav2bold.trainables.reading import trained_whole
from wav2bold.tuning.heat_map import heat_map_png, heat_map_svg
from wav2bold.tuning.subset_scores import SubsetScore, averaged
from wav2bold.tuning.subsets import Subset, chosen_subsets, every_subset


@pytest.fixture(scope="module", params=["wav2vec2-base", "wavlm-large", "data2vec-base"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("encoder"), request.param)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("encoder"), "wav2vec2-base")))


def test_each_covers_every_parameter_within_the_layers_once_and_types_below_them_whole(
    encoder: Encoder,
) -> None:
    subsets = every_subset(encoder, Configuration())
    trained = [name for one in subsets for name in trained_whole(encoder, one.alone(Configuration()))]
    assert len(set(trained)) == len(trained)
    every = {name for name, _ in encoder.model.named_parameters() if name != "masked_spec_embed"}
    below = {name for name in every if parameter_type(name)[1] is None}
    assert every - below <= set(trained)
    assert {parameter_type(name)[0] for name in every - set(trained)} <= {"layer_norm", "bias"}
    assert len(subsets) == 3 + 4 * LAYERS
    assert len({one.name for one in subsets}) == len(subsets)


def test_each_leaves_out_layers_that_the_head_does_not_reach(encoder: Encoder) -> None:
    subsets = every_subset(encoder, Configuration(layers=1))
    spans = [span for one in subsets for span in one.unfrozen.values() if span is not None]
    assert set(spans) == {(0, 0)}


def test_a_subset_is_all_that_its_configuration_trains() -> None:
    adapted = Configuration(history=3, lora=Lora(rank=2))
    alone = Subset("norms", {"layer_norm": (0, 1)}).alone(adapted)
    assert (alone.unfrozen, alone.lora, alone.history) == ({"layer_norm": (0, 1)}, None, 3)


def test_a_file_gives_its_subsets_in_its_order(small: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "subsets.yaml"
    path.write_text("top: {attention: [1, 2], bias: null}\nbelow: {conv: null}\n")
    first, second = chosen_subsets(small, Configuration(), path)
    assert (first.name, dict(first.unfrozen)) == ("top", {"attention": (1, 2), "bias": None})
    assert (second.name, dict(second.unfrozen)) == ("below", {"conv": None})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no options"),
        ("{}", "names no subset; write one `name: {type: range}` per line"),
        ("top: {atention: null}", "top: atention: atention is none of conv,"),
        ("top: {attention: [2, 1]}", "top: attention: layers 2 to 1 run backwards; write [1, 2]"),
        ("top: {attention: [0, 9]}", "top: attention: there is no layer 9 in "),
        ("top: {conv: [0, 1]}", "top: conv lies below the layers; write null in place of its range"),
        ("top: {}", "top names no parameter type; write top: {attention: null}"),
        ("top: attention", "top names no parameter type"),
        ("a/b: {conv: null}", "a/b can't name a folder"),
        ("a: {conv: null}\nb: {bias: null}\na: {bias: null}", "a is named twice; give it another name"),
        ("a: {conv: null}\nA: {bias: null}", "A is named twice"),
        ("a: {bias: [0, 0], bias: [1, 1]}", "bias is named twice"),
        ("a: {bias: [0, 9]}\nb: {bias: [0, 1]}\nc: {attention: [0, 8]}", "c: attention: there is no layer 8"),
    ],
)
def test_what_can_not_be_a_subset_is_told_in_one_line(
    small: Encoder, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "subsets.yaml"
    path.write_text(text)
    with pytest.raises((StudyError, EncoderError)) as raised:
        chosen_subsets(small, Configuration(), path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "unfrozen" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(small: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all\.yaml: no such file; write .* or give each"):
        chosen_subsets(small, Configuration(), tmp_path / "all.yaml")


def score(name: str, subject: str, after: float, change: float = 0.1, **unfrozen: object) -> SubsetScore:
    return SubsetScore(name, unfrozen, (subject,), 0.2, after, 100, change, int(after > 0.2), 3)


def test_means_are_taken_over_the_subjects_of_each_subset() -> None:
    scores = [
        score("a", "sub-001", 0.3, attention=(0, 0)),
        score("b", "sub-001", 0.2, bias=None),
        score("a", "sub-002", 0.2, 0.3, attention=(0, 0)),
    ]
    first, second = averaged(scores)
    assert (first.name, first.subjects, first.helped) == ("a", ("sub-001", "sub-002"), 1)
    assert (first.gain, first.change) == (pytest.approx(0.05), pytest.approx(0.2))
    assert (second.name, second.subjects, second.gain) == ("b", ("sub-001",), 0.0)


def test_a_heat_map_has_a_row_of_each_type_and_one_more_where_ranges_overlap() -> None:
    means = [
        score("a", "sub-001", 0.3, attention=(0, 1)),
        score("b", "sub-001", 0.25, attention=(2, 2)),
        score("c", "sub-001", 0.22, attention=(1, 2)),
        score("d", "sub-001", 0.21, conv=None),
        score("e", "sub-001", 0.24, conv=None, bias=None),
    ]
    drawn = heat_map_svg(means, "gain")
    assert drawn.count(">attention<") == 2
    assert drawn.count(">convolutions<") == 1
    assert ">biases<" not in drawn  # a subset of two types has no place in a map of types
    assert "full colour: +0.100" in drawn
    assert heat_map_svg(means[-1:], "gain") == ""
    assert heat_map_png(means).startswith(b"\x89PNG")
    assert heat_map_png(means[-1:]).startswith(b"\x89PNG")


def test_a_lower_score_has_another_colour_than_a_higher_one() -> None:
    lower = heat_map_svg([score("a", "sub-001", 0.1, attention=(0, 0))], "gain")
    higher = heat_map_svg([score("a", "sub-001", 0.3, attention=(0, 0))], "gain")
    assert "var(--paper)" in lower
    assert "var(--paper)" not in higher
    assert "var(--best)" in higher


def test_every_type_has_a_row_of_its_own() -> None:
    means = [score(kind, "sub-001", 0.3, **{kind: None}) for kind in PARAMETER_TYPES]
    assert heat_map_svg(means, "change").count("full colour: 10%") == 1

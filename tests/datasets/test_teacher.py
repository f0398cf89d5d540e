"""The simulated brain's ear hears what transformers' own model hears, and is perturbed where it says."""

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, speech
from transformers import Wav2Vec2Model

from wav2bold.datasets.teacher import convolve, extractor, hear, make_teacher, perturbed

SOUND = speech(40, seed=0)
TR_S = 1.5


@pytest.fixture(scope="module")
def teacher() -> Wav2Vec2Model:
    return make_teacher(SOUND, seed=0)


def test_a_window_is_heard_as_by_the_model_itself(teacher: Wav2Vec2Model) -> None:
    history = 4
    times_s = np.array([6.0, 7.5, 21.0, 39.0])
    ours = hear(teacher, SOUND, times_s, TR_S, history)
    for time_s, states in zip(times_s, ours, strict=True):
        stop = round(time_s * RATE_HZ)
        window = torch.from_numpy(SOUND[stop - round(history * TR_S * RATE_HZ) : stop])[None]
        with torch.no_grad():
            hidden = teacher(window).last_hidden_state[0].numpy()
        truth = [part.mean(0) for part in np.split(hidden, [75, 150, 225])]
        np.testing.assert_allclose(states, truth, atol=1e-4)


def test_a_story_convolved_in_pieces_is_the_story_convolved_at_once(teacher: Wav2Vec2Model) -> None:
    long = np.concatenate([SOUND, SOUND])  # more than one piece of 60 s
    with torch.no_grad():
        truth = teacher.feature_extractor(torch.from_numpy(long)[None])[0].T
    torch.testing.assert_close(convolve(teacher, long), truth, atol=1e-5, rtol=1e-5)


def test_its_states_vary_along_many_directions(teacher: Wav2Vec2Model) -> None:
    """Participation ratio; with the library's own initialisation it is near 3."""
    states = hear(teacher, SOUND, np.arange(6, 40, 0.5), TR_S, 1)[:, -1]
    power = np.linalg.eigvalsh(np.cov(states.T))
    assert power.sum() ** 2 / (power**2).sum() > 5


def test_a_seed_is_a_teacher() -> None:
    one, same, other = (make_teacher(SOUND, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(
        one["encoder.layers.0.attention.k_proj.weight"], other["encoder.layers.0.attention.k_proj.weight"]
    )


@pytest.mark.parametrize(
    ("kinds", "layers"),
    [(("attention",), (0,)), (("feed_forward",), (1,)), (("attention", "feed_forward"), (0, 1))],
)
def test_what_is_named_is_shuffled_and_all_else_is_equal_bit_by_bit(
    teacher: Wav2Vec2Model, kinds: tuple[str, ...], layers: tuple[int, ...]
) -> None:
    before, after = teacher.state_dict(), perturbed(teacher, kinds, layers, seed=1).state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    matrices = {
        "attention": ["attention.k_proj", "attention.v_proj", "attention.q_proj", "attention.out_proj"],
        "feed_forward": ["feed_forward.intermediate_dense", "feed_forward.output_dense"],
    }
    assert changed == {
        f"encoder.layers.{layer}.{matrix}.weight"
        for layer in layers
        for kind in kinds
        for matrix in matrices[kind]
    }
    for key in changed:
        assert torch.equal(before[key].flatten().sort().values, after[key].flatten().sort().values)


def test_perturbing_leaves_the_teacher_as_it_was(teacher: Wav2Vec2Model) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    perturbed(teacher, ("attention", "feed_forward"), (0, 1), seed=1)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_what_was_perturbed_is_not_found_again_by_a_linear_map(teacher: Wav2Vec2Model) -> None:
    """Fitted on the first half of a story and asked of the second, least squares recovers less than half."""
    sound = speech(120, seed=1)
    times_s = np.arange(3, 120, 0.1).round(2)
    truth = hear(teacher, sound, times_s, 1.0, 1)[:, -1]
    lost = hear(perturbed(teacher, ("attention", "feed_forward"), (0, 1), 1), sound, times_s, 1.0, 1)[:, -1]
    design, half = np.column_stack([lost, np.ones(len(lost))]), len(lost) // 2
    weight = np.linalg.lstsq(design[:half], truth[:half], rcond=None)[0]
    left = truth[half:] - design[half:] @ weight
    assert np.mean(left.var(0) / truth[half:].var(0)) > 0.5


def test_the_extractor_does_not_normalise_the_window() -> None:
    sound = np.linspace(-0.1, 0.4, 1000, dtype=np.float32)
    given = extractor()(sound, sampling_rate=RATE_HZ, return_tensors="np").input_values[0]
    np.testing.assert_array_equal(given, sound)

"""A head that convolves over TRs is torch's convolution and a linear layer, and begins as the ridge."""

import numpy as np
import pytest
import torch

from wav2bold.config import Configuration, HiddenStates
from wav2bold.trainables.convolution import convolved, first_kernel, folded
from wav2bold.trainables.noise import WHITE, Clock
from wav2bold.trainables.reduced import reduced
from wav2bold.trainables.ridge import fit_head
from wav2bold.trainables.torch_head import Criterion, TorchHead

STATES, TRS, WIDTH = 2, 5, 3
TAPS = pytest.mark.parametrize("taps", [1, 3, 7])


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@TAPS
def test_it_is_torchs_convolution_of_each_feature_with_what_came_before(taps: int) -> None:
    features, kernel = some(4, STATES, TRS, WIDTH), some(STATES, WIDTH, taps, seed=1)
    in_time = features.permute(0, 1, 3, 2).reshape(4, STATES * WIDTH, TRS)
    padded = torch.nn.functional.pad(in_time, (taps - 1, 0))
    weight = kernel.reshape(STATES * WIDTH, 1, taps).flip(2)  # torch correlates
    truth = torch.nn.functional.conv1d(padded, weight, groups=STATES * WIDTH)
    truth = truth.reshape(4, STATES, WIDTH, TRS).permute(0, 1, 3, 2).flatten(1)
    torch.testing.assert_close(convolved(features.flatten(1), kernel), truth)


@TAPS
def test_it_folds_into_the_weights_that_follow_it(taps: int) -> None:
    features, kernel = some(4, STATES * TRS * WIDTH), some(STATES, WIDTH, taps, seed=1)
    weight = some(STATES * TRS * WIDTH, 6, seed=2)
    torch.testing.assert_close(features @ folded(weight, kernel), convolved(features, kernel) @ weight)


@pytest.mark.parametrize(("layers", "states"), [(None, 1), ((2, 3), 2), ("weighted", 1)])
def test_every_feature_of_every_hidden_state_has_a_kernel_that_changes_nothing_at_first(
    layers: HiddenStates, states: int
) -> None:
    options = Configuration(head="conv_linear", history=TRS, layers=layers, conv_kernel=4)
    kernel = first_kernel(options, states * TRS * WIDTH)
    assert kernel.shape == (states, WIDTH, 4)
    features = some(4, states * TRS * WIDTH)
    assert torch.equal(convolved(features, torch.from_numpy(kernel)), features)
    assert first_kernel(Configuration(), 30) is None


@pytest.mark.parametrize("rank", [None, 2])
def test_it_begins_as_the_ridge_which_is_a_minimum_for_the_kernel_too(rank: int | None) -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((80, TRS * WIDTH)).astype(np.float32)
    y = features @ random.standard_normal((TRS * WIDTH, 4)) + random.standard_normal((80, 4))
    y = y.astype(np.float32)
    y[60:, 2:] = np.nan  # two people, of whom one heard less
    story = np.repeat(["bakery", "ferry"], 40)
    ridge = fit_head(features, y, story)
    factors = None if rank is None else reduced(ridge, rank, features)
    options = Configuration(head="conv_linear", history=TRS)
    device = torch.device("cpu")
    head = TorchHead(ridge, device, factors, first_kernel(options, TRS * WIDTH))
    plain = TorchHead(ridge, device, factors)
    told, truth = (one(torch.from_numpy(features)) for one in (head, plain))
    torch.testing.assert_close(told, truth)
    if rank is None:
        np.testing.assert_allclose(told.detach(), ridge.predict(features), atol=1e-5)
    assert head.penalty().item() == pytest.approx(plain.penalty().item(), rel=1e-5)
    clock = Clock(story, np.tile(np.arange(40.0), 2))
    people = np.array(["sub-1", "sub-1", "sub-2", "sub-2"])
    criterion = Criterion(y, people, clock, WHITE, "mse", None, device)
    kernel = head.parameters[0]

    def slope() -> float:
        cost = criterion.total([np.arange(80)], head(torch.from_numpy(features))) + head.penalty()
        return float(torch.autograd.grad(cost / np.isfinite(y).sum(), kernel)[0].abs().max())

    assert rank is not None or slope() < 1e-5
    with torch.no_grad():
        kernel[0, :, 1] += 0.5
    assert slope() > 1e-2


def test_penalty_and_saved_head_are_those_of_convolution_and_map_together() -> None:
    """What unit features give is the weight."""
    random = np.random.default_rng(0)
    features = random.standard_normal((40, TRS * WIDTH)).astype(np.float32)
    y = random.standard_normal((40, 4)).astype(np.float32)
    ridge = fit_head(features, y, np.repeat(["bakery", "ferry"], 20))
    kernel = some(1, WIDTH, 3).numpy()
    for factors in (None, reduced(ridge, 2, features)):
        head = TorchHead(ridge, torch.device("cpu"), factors, kernel)
        mean, sd = (torch.from_numpy(part) for part in (ridge.mean, ridge.sd))
        weight = (head(torch.diag(sd) + mean) - head(mean[None])).detach().numpy()
        np.testing.assert_allclose(head.head().weight, weight, atol=1e-5)
        assert head.penalty().item() == pytest.approx((ridge.alpha * weight**2).sum(), rel=1e-4)
        np.testing.assert_allclose(
            head.head().predict(features), head(torch.from_numpy(features)).detach(), atol=1e-5
        )
        assert [part is own for part, own in zip(head.beside, head.parameters, strict=False)] == [True] * (
            2 if factors is None else 3
        )

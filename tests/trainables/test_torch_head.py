"""What stage 2 makes small, against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import block_diag, toeplitz
from scipy.spatial.distance import cosine

from wav2bold.config import LossKind
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.torch_head import Criterion, TorchHead

AR = NoiseModel(0.7 ** np.arange(9.0), np.array([0.7, *([0.0] * 7)]))
PEOPLE = np.array(["sub-1"] * 5 + ["sub-2"] * 4)
BLOCKS = [np.arange(3, 11), np.arange(40, 45)]
ROWS = np.concatenate(BLOCKS)


def measured(seed: int = 0) -> np.ndarray:
    """30 volumes of two stories; the second person lacks some."""
    y = np.random.default_rng(seed).standard_normal((60, 9)).astype(np.float32)
    y[5:7, 5:] = np.nan
    y[41, 5:] = np.nan
    return y


def criterion(
    kind: LossKind, noise: NoiseModel, y: np.ndarray, weight: np.ndarray | None = None
) -> Criterion:
    story = np.repeat(["ferry", "bakery"], 30)
    clock = Clock(story, np.tile(np.arange(30, dtype=float), 2))
    return Criterion(y, PEOPLE, clock, noise, kind, weight, torch.device("cpu"))


def white(values: np.ndarray) -> np.ndarray:
    """Block by block, the volumes that there are multiplied by the inverse Cholesky factor of their R."""
    out = np.full_like(values, np.nan, dtype=np.float64)
    first = 0
    for block in BLOCKS:
        part = values[first : first + len(block)].astype(np.float64)
        for v in range(values.shape[1]):
            there = np.flatnonzero(np.isfinite(part[:, v]))
            r = 0.7 ** np.abs(there[:, None] - there[None, :]).astype(float)
            out[first + there, v] = np.linalg.inv(np.linalg.cholesky(r)) @ part[there, v]
        first += len(block)
    return out


def test_squared_error_is_its_mean_over_what_was_measured() -> None:
    y, predicted = measured(), torch.randn(13, 9, generator=torch.Generator().manual_seed(1))
    plain = criterion("mse", WHITE, y)
    wanted = np.nanmean((predicted.numpy() - y[ROWS]) ** 2)
    assert float(plain.total(BLOCKS, predicted)) / plain.count(BLOCKS) == pytest.approx(wanted, rel=1e-5)


def test_squared_error_in_noise_is_that_of_what_is_white() -> None:
    y, predicted = measured(), torch.randn(13, 9, generator=torch.Generator().manual_seed(1))
    modelled = criterion("mse", AR, y)
    errors = np.where(np.isfinite(y[ROWS]), predicted.numpy() - y[ROWS], np.nan)
    wanted = np.nanmean(white(errors) ** 2)
    assert float(modelled.total(BLOCKS, predicted)) / modelled.count(BLOCKS) == pytest.approx(
        wanted, rel=1e-5
    )


def test_errors_that_are_only_noise_of_the_model_cost_1() -> None:
    """White and of unit variance, whatever block they are in."""
    random = np.random.default_rng(0)
    factor = block_diag(np.linalg.cholesky(toeplitz(0.7 ** np.arange(30))), np.eye(30))
    y = (factor @ random.standard_normal((60, 9 * 400))).astype(np.float32)
    clock = Clock(np.repeat(["ferry", "bakery"], 30), np.tile(np.arange(30, dtype=float), 2))
    some = Criterion(y, np.repeat("sub-1", y.shape[1]), clock, AR, "mse", None, torch.device("cpu"))
    blocks = [np.arange(2, 10), np.arange(10, 15), np.arange(20, 28)]
    total = some.total(blocks, torch.zeros(21, y.shape[1]))
    assert float(total) / some.count(blocks) == pytest.approx(1.0, abs=0.02)


def test_targets_count_by_their_weight() -> None:
    y, predicted = measured(), torch.zeros(13, 9)
    weight = np.linspace(0, 2, 9).astype(np.float32)
    some = criterion("mse", WHITE, y, weight)
    wanted = np.nansum(weight * y[ROWS] ** 2) / np.isfinite(y[ROWS]).sum()
    assert float(some.total(BLOCKS, predicted)) / some.count(BLOCKS) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("noise", [WHITE, AR], ids=["white", "ar"])
@pytest.mark.parametrize("kind", ["corr", "cosine"])
def test_likeness_is_scipys_across_the_targets_of_a_person(kind: LossKind, noise: NoiseModel) -> None:
    y, predicted = measured(), torch.randn(13, 9, generator=torch.Generator().manual_seed(1))
    some = criterion(kind, noise, y)
    told = np.where(np.isfinite(y[ROWS]), predicted.numpy(), np.nan)
    told, heard = (told, y[ROWS]) if noise is WHITE else (white(told), white(y[ROWS]))
    unlike = []
    for columns in (slice(0, 5), slice(5, 9)):
        for row in range(13):
            if np.isfinite(heard[row, columns]).all():
                one, other = told[row, columns], heard[row, columns]
                r = stats.pearsonr(one, other).statistic if kind == "corr" else 1 - cosine(one, other)
                unlike.append(1 - r)
    assert some.count(BLOCKS) == len(unlike) == 26 - 3
    assert float(some.total(BLOCKS, predicted)) / len(unlike) == pytest.approx(np.mean(unlike), rel=1e-4)


@pytest.mark.parametrize("kind", ["mse", "corr", "cosine"])
def test_what_was_not_measured_has_no_gradient(kind: LossKind) -> None:
    y = measured()
    predicted = torch.randn(13, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    criterion(kind, AR, y).total(BLOCKS, predicted).backward()
    assert torch.isfinite(predicted.grad).all()
    assert torch.all(predicted.grad[~np.isfinite(y[ROWS])] == 0)
    assert torch.all(predicted.grad[np.isfinite(y[ROWS])] != 0)


def test_a_prediction_that_does_not_vary_correlates_with_nothing() -> None:
    some = criterion("corr", WHITE, measured())
    constant = torch.ones(13, 9, requires_grad=True)
    loss = some.total(BLOCKS, constant)
    assert float(loss.detach()) / some.count(BLOCKS) == pytest.approx(1.0)
    loss.backward()
    assert torch.isfinite(constant.grad).all()


def test_a_head_of_two_factors_predicts_and_is_penalised_as_their_product_and_moves_as_two() -> None:
    random = np.random.default_rng(0)
    left, right, bias, mean = (
        random.standard_normal(shape).astype(np.float32) for shape in ((6, 2), (2, 9), 9, 6)
    )
    sd, alpha = random.uniform(1, 2, 6).astype(np.float32), random.uniform(1, 100, 9).astype(np.float32)
    head = TorchHead(Head(mean, sd, left @ right, bias, alpha), torch.device("cpu"), (left, right))
    features = random.standard_normal((13, 6)).astype(np.float32)
    predicted, penalty = head(torch.from_numpy(features)), head.penalty()
    truth = (features - mean) / sd @ (left @ right) + bias
    np.testing.assert_allclose(predicted.detach().numpy(), truth, rtol=1e-4, atol=1e-4)
    assert penalty.item() == pytest.approx((alpha * ((left @ right) ** 2).sum(0)).sum(), rel=1e-5)
    (predicted.sum() + penalty).backward()
    of_weight = ((features - mean) / sd).sum(0)[:, None] + 2 * alpha * (left @ right)
    # the chain rule of a product
    np.testing.assert_allclose(head.parameters[0].grad, of_weight @ right.T, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(head.parameters[1].grad, left.T @ of_weight, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(head.parameters[2].grad, np.full(9, 13), rtol=1e-5)
    with torch.no_grad():
        head.parameters[0].add_(1)
    np.testing.assert_allclose(head.head().weight, (left + 1) @ right, rtol=1e-5, atol=1e-5)

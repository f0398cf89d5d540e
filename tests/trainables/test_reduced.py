"""A head of rank R fits as well as any of that rank can."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LinearRegression

from wav2bold.errors import UserError
from wav2bold.trainables.reduced import reduced
from wav2bold.trainables.ridge import Head, fit_head


def fitted(shape: tuple[int, int, int], seed: int = 0) -> tuple[Head, np.ndarray]:
    volumes, width, targets = shape
    random = np.random.default_rng(seed)
    features = (3 + 2 * random.standard_normal((volumes, width))).astype(np.float32)
    y = features @ random.standard_normal((width, targets)) + random.standard_normal((volumes, targets)) - 9
    return fit_head(features, y.astype(np.float32), np.repeat(["bakery", "ferry"], volumes // 2)), features


@settings(deadline=None, max_examples=25)
@given(st.integers(4, 20), st.integers(1, 30), st.integers(1, 30), st.data())
def test_fitted_values_are_the_truncated_svd_of_the_heads_own(
    half: int, width: int, targets: int, data: st.DataObject
) -> None:
    head, features = fitted((2 * half, width, targets))
    rank = data.draw(st.integers(1, min(2 * half, width, targets)))
    left, right = reduced(head, rank, features)
    assert (left.shape, right.shape) == ((width, rank), (rank, targets))
    standard = (features - head.mean) / head.sd
    own = standard.astype(np.float64) @ head.weight
    u, size, vt = np.linalg.svd(own, full_matrices=False)
    truth = u[:, :rank] * size[:rank] @ vt[:rank]
    # nearly equal singular values leave the choice of direction open, not how much is explained
    error = np.linalg.norm(own - standard @ left @ right)
    assert error == pytest.approx(np.linalg.norm(own - truth), abs=1e-4 * np.linalg.norm(own))


def test_it_is_scikit_learns_truncated_svd_where_singular_values_are_apart() -> None:
    head, features = fitted((60, 12, 9), seed=1)
    standard = (features - head.mean) / head.sd
    own = standard @ head.weight
    truncated = TruncatedSVD(3, algorithm="arpack")
    truth = truncated.inverse_transform(truncated.fit_transform(own.astype(np.float64)))
    left, right = reduced(head, 3, features)
    np.testing.assert_allclose(standard @ left @ right, truth, atol=1e-4)


def test_without_penalty_it_is_the_best_fit_of_its_rank_to_the_targets_themselves() -> None:
    """Reduced-rank regression: OLS projected on the principal directions of its fitted values (Izenman)."""
    random = np.random.default_rng(3)
    features = random.standard_normal((200, 8)).astype(np.float32)
    y = (features @ random.standard_normal((8, 6)) + random.standard_normal((200, 6))).astype(np.float32)
    head = fit_head(features, y, np.repeat(["bakery", "ferry"], 100), alphas=(1e-3,))
    left, right = reduced(head, 2, features)
    standard = (features - head.mean) / head.sd
    centred = y - y.mean(0)
    ols = LinearRegression().fit(standard, centred).predict(standard)
    values, vectors = np.linalg.eigh(centred.T @ ols)
    truth = ols @ vectors[:, values.argsort()[-2:]] @ vectors[:, values.argsort()[-2:]].T
    np.testing.assert_allclose(standard @ left @ right, truth, atol=1e-3)


def test_the_full_rank_is_the_head_itself() -> None:
    head, features = fitted((40, 7, 30))
    left, right = reduced(head, 7, features)
    np.testing.assert_allclose(left @ right, head.weight, atol=1e-4)


@pytest.mark.parametrize(("rank", "nearest"), [(0, 1), (8, 7)])
def test_a_rank_that_cannot_be_names_the_nearest_that_can(rank: int, nearest: int) -> None:
    head, features = fitted((40, 7, 30))
    with pytest.raises(UserError) as raised:
        reduced(head, rank, features)
    assert str(raised.value) == (
        f"head_rank: {rank} is out of range: 40 volumes, 7 features, 30 targets; "
        f"the nearest valid value is {nearest}"
    )

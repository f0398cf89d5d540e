"""Whether a target is predicted, or predicted better, than chance explains: blocks of time are exchanged."""

# T volumes, V targets, K blocks, L volumes in a block, R permutations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from wav2bold.evaluation.blocks import block_volumes, whole_blocks
from wav2bold.trainables.scores import batches, pearson

BLOCK_S = 30.0
"""Length of a block. With 15 s, p was below 0.05 in 8% of simulations where both BOLD and prediction remember
for 10 s (AR 0.8 and 0.9 at 1.5 s) and in 5 to 6% where BOLD forgets sooner; with 30 s in 6% and 5%."""
PAIRED_BLOCK_S = 15.0
"""Of blocks in which two predictions are exchanged: what BOLD has beside both of them remembers less. Where
there was nothing, p was below 0.05 in 4 to 7% of the same simulations."""
LEAST_BLOCKS = 6
"""Six blocks have 720 orders."""
PERMUTATIONS = 1000
"""p is 0.001 at least: in 80,000 targets, those found then are at least 2% of all."""
LEVEL = 0.05
"""Share of false discoveries that is accepted."""


def prediction_p(
    y: NDArray[np.floating],
    predicted: NDArray[np.floating],
    story: NDArray[np.str_],
    tr_s: float,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """How often r is as high where blocks of the prediction are exchanged in time: one-sided p, (V,).

    y, predicted: (T, V).  story: (T,) of each row, in time within each. Whole blocks within stories take
    part. NaN where r doesn't exist, or there are fewer than 2 blocks.
    Sums and squares don't change when blocks are exchanged, and the sum of products is one of
    products C_ij of block i of BOLD with block j of the prediction: C (K, K) is made once for each target,
    and a permutation then adds K numbers in place of T. The order as it is counts as a permutation
    (Phipson & Smyth 2010).
    """
    rows = whole_blocks(story, block_volumes(story, tr_s, BLOCK_S, LEAST_BLOCKS))
    p = np.full(y.shape[1], np.nan)
    if len(rows) < 2:
        return p
    blocks = len(rows)
    orders = _permutations(blocks, permutations, np.random.default_rng(seed))
    taken = sparse.csr_array(
        (
            np.ones(orders.size, np.float32),
            (np.arange(blocks) * blocks + orders).ravel(),
            np.arange(0, orders.size + 1, blocks),
        ),
        shape=(len(orders), blocks**2),
    )
    for some in batches(y.shape[1], 4 * (blocks**2 + permutations) + 80 * rows.size):
        measured, guess = (values[rows.ravel(), some] for values in (y, predicted))
        known = np.isfinite(pearson(measured, guess))
        one, other = (_in_blocks(_unit(values[:, known]), blocks) for values in (measured, guess))
        products = (one @ other.swapaxes(1, 2)).reshape(len(one), -1).T
        observed = products[:: blocks + 1].sum(0)
        permuted = taken @ np.ascontiguousarray(products)
        p[some][known] = _share(permuted, observed)
    return p


def improvement_p(
    y: NDArray[np.floating],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    story: NDArray[np.str_],
    tr_s: float,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Whether `after` predicts a target better than `before`: one-sided p, (V,).

    As `prediction_p`, but paired: in each block, which prediction is which is exchanged at random. Exchanging
    them turns the sign of the block's share in the difference of r, so shares are all that is needed.
    """
    rows = whole_blocks(story, block_volumes(story, tr_s, PAIRED_BLOCK_S, LEAST_BLOCKS))
    p = np.full(y.shape[1], np.nan)
    if len(rows) < 2:
        return p
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([-1, 1], np.float32), (permutations, len(rows)))
    for some in batches(y.shape[1], 4 * permutations + 100 * rows.size):
        here = [values[rows.ravel(), some] for values in (y, before, after)]
        known = np.isfinite(pearson(here[0], here[1])) & np.isfinite(pearson(here[0], here[2]))
        measured, one, other = (_unit(values[:, known]) for values in here)
        shares = (measured * (other - one)).reshape(*rows.shape, -1).sum(1)
        p[some][known] = _share(signs @ shares, shares.sum(0))
    return p


def significant(p: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.bool_]:
    """Which targets are, among all of them, with a false discovery rate of `level`: (V,).

    Benjamini & Hochberg (1995). NaN is no test and never significant.
    """
    tested = np.isfinite(p)
    found = np.zeros(p.shape, bool)
    if tested.any():
        found[tested] = stats.false_discovery_control(p[tested]) <= level
    return found


def _permutations(blocks: int, number: int, random: np.random.Generator) -> NDArray[np.int64]:
    """(R, K) orders of blocks."""
    return random.permuted(np.tile(np.arange(blocks), (number, 1)), axis=1)


def _share(permuted: NDArray[np.float32], observed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each target's p: (R, V) against (V,). A sum in another order may differ in its last digits."""
    as_high = (permuted >= observed - 1e-5).sum(0)
    return np.asarray((1 + as_high) / (1 + len(permuted)))


def _in_blocks(values: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    """(V, K, L) of (T, V)."""
    return np.ascontiguousarray(values.T).reshape(values.shape[1], blocks, -1)


def _unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Of mean 0 and length 1 over rows: the product of two is r."""
    centred = values - values.mean(0, dtype=np.float64)
    return np.asarray(centred / np.linalg.norm(centred, axis=0), np.float32)

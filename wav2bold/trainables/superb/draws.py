"""Which clips a training step sees: known from the seed and the step's number alone."""

# N clips that train

import numpy as np
from numpy.typing import NDArray


def class_shares(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) what each of N labels counts where classes count equally; they sum to 1."""
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[which] / len(counts))


class Draws:
    """Rows of each step's batch, so that training goes on after an interruption as if there had been none.

    rows: (N,) that train.  labels: (N,) of them, where classes are to be drawn equally often, with
    replacement; None: every row once an epoch.  drops_last: whether less than a batch is passed over.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch: int,
        seed: int,
        labels: NDArray[np.int64] | None = None,
        *,
        drops_last: bool = False,
    ) -> None:
        self._rows, self._batch, self._seed = rows, min(batch, len(rows)), seed
        self._share: NDArray[np.float64] | None = None
        if labels is not None:
            self._share = class_shares(labels)
        whole = len(rows) // self._batch
        self._steps = whole if drops_last or len(rows) % self._batch == 0 else whole + 1
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, rows)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The rows of step 0, 1, ..."""
        epoch, within = divmod(step, self._steps)
        if self._epoch[0] != epoch:
            random = np.random.default_rng((self._seed, epoch))
            if self._share is None:
                self._epoch = epoch, random.permutation(self._rows)
            else:
                self._epoch = epoch, random.choice(self._rows, len(self._rows), p=self._share)
        return self._epoch[1][within * self._batch : (within + 1) * self._batch]


class Buckets:
    """Rows of each step's batch where a batch's clips are of similar length, as `Draws` otherwise.

    rows: (N,) that train.  lengths: (N,) of them, by which batches are cut; they come in another order each
    epoch.
    """

    def __init__(self, rows: NDArray[np.int64], lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        ordered = rows[np.argsort(-lengths, kind="stable")]
        self._batches = [ordered[first : first + batch] for first in range(0, len(rows), batch)]
        self._seed = seed

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The rows of step 0, 1, ..."""
        epoch, within = divmod(step, len(self._batches))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._batches))
        return np.asarray(self._batches[order[within]])

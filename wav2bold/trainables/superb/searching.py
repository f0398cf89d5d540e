"""Searching recordings for spoken queries, with every hidden state: recordings stream by, twice."""

# L hidden states, F frames, D features, Q queries of both sets, N documents

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.superb.clips import Clip, digest_of, sound_of
from wav2bold.trainables.superb.hidden import all_states, check_frames
from wav2bold.trainables.superb.qbe import Queries, Search
from wav2bold.trainables.superb.statistic import mtwv
from wav2bold.trainables.superb.subsequence import fits

DOCUMENTS_IN_FILE = 64
"""Of which a stored array holds what came of them: what a killed run has to search again, at most."""
LEAST_SPREAD = 1e-9
DIGITS = 4
"""Of a score, as the reference hands them to the data set's scorer."""


@dataclass(frozen=True)
class Found:
    """dev: MTWV of the dev set by hidden state.  state: the best of these; of equal ones the lowest.

    sure_dev, sure_test: (queries, documents) how sure each is found in each, with that state.
    sizes: (L,) mean length of a hidden state's vectors in documents.
    """

    dev: tuple[float, ...]
    state: int
    sure_dev: NDArray[np.float64]
    sure_test: NDArray[np.float64]
    sizes: NDArray[np.float64]


@dataclass(frozen=True)
class _Moments:
    """Of frames: how many, sums of each feature (L, D) and of its square, and of vectors' lengths (L,)."""

    frames: int
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    lengths: NDArray[np.float64]


def search(encoder: Encoder, store: ActivationStore, asked: Search) -> Found:
    """Search all documents for both sets' queries; the state that finds the dev set best is the one tested.

    Features are scaled to mean 0 and spread 1 over a set's queries and the documents, as in the reference,
    so documents are heard twice, for mean and spread and then for the search. Only the queries' states are
    held all together. What came of a block of documents is kept in the store.
    Raises DataError if a clip isn't there, or is too short to give a frame.
    """
    blocks = [
        asked.documents[first : first + DOCUMENTS_IN_FILE]
        for first in range(0, len(asked.documents), DOCUMENTS_IN_FILE)
    ]
    queries = [[_states(encoder, clip) for clip in own.clips] for own in (asked.dev, asked.test)]
    heard = [_moments(encoder, store, block, asked) for block in blocks]
    scales = [_scale([*heard, *map(_moments_of, own)]) for own in queries]
    address = {
        "of": "superb qbe fits",
        "encoder": encoder.digest,
        "all": digest_of(asked.clips, asked.root),
        "dev": len(asked.dev.clips),
    }
    fitted = [
        store.array(
            address | {"block": number},
            (len(block), encoder.layers + 1, sum(map(len, queries))),
            partial(_fits, encoder, block, queries, scales),
        )
        for number, block in enumerate(blocks)
    ]
    fits_LQN = np.concatenate(fitted).transpose(1, 2, 0)
    dev = len(asked.dev.clips)
    values = tuple(_value(asked.dev, sure(fits_QN[:dev])) for fits_QN in fits_LQN)
    state = int(np.argmax(values))
    frames = sum(one.frames for one in heard)
    return Found(
        dev=values,
        state=state,
        sure_dev=sure(fits_LQN[state, :dev]),
        sure_test=sure(fits_LQN[state, dev:]),
        sizes=np.sum([one.lengths for one in heard], axis=0) / frames,
    )


def sure(fits_QN: NDArray[np.float32]) -> NDArray[np.float64]:
    """How sure each query is found in each document: its fits as standard scores over all documents."""
    fits = fits_QN.astype(np.float64)
    spread = np.maximum(fits.std(1, keepdims=True), LEAST_SPREAD)
    return np.asarray(np.round((fits - fits.mean(1, keepdims=True)) / spread, DIGITS))


def _value(queries: Queries, sure_QN: NDArray[np.float64]) -> float:
    names, sures, occurs = trials(queries, sure_QN)
    once = np.ones((1, len(np.unique(names))), np.float32)
    return float(mtwv(sures, occurs, np.unique(names, return_inverse=True)[1], once)[0])


def trials(
    queries: Queries, sure_QN: NDArray[np.float64]
) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Query, score, and 1 where it occurs or else 0, of all pairs; a query that occurs nowhere has none.

    There is nothing of such a query to miss, so the data set's scorer leaves it out, too.
    """
    rows = queries.occurs.any(1)
    names = np.repeat(np.array(queries.names, np.str_)[rows], queries.occurs.shape[1])
    return names, sure_QN[rows].ravel(), queries.occurs[rows].ravel().astype(np.float64)


def _states(encoder: Encoder, clip: Clip) -> Tensor:
    """Hidden states of a clip, (L, F, D)."""
    sound = sound_of(clip)
    check_frames(encoder, clip, len(sound))
    return all_states(encoder, sound[None])[:, 0]


def _moments_of(states_LFD: Tensor) -> _Moments:
    # float64: a spread is what is left of two sums over a million frames
    states = states_LFD.double()
    sums = (states.sum(1), states.square().sum(1), states.norm(dim=2).sum(1))
    return _Moments(states.shape[1], *(one.cpu().numpy() for one in sums))


def _moments(encoder: Encoder, store: ActivationStore, block: Sequence[Clip], asked: Search) -> _Moments:
    """Of all frames of a block of documents, from the store if it has them."""
    address = {"of": "superb qbe moments", "encoder": encoder.digest, "clips": digest_of(block, asked.root)}
    width = int(encoder.model.config.hidden_size)
    kept = store.array(
        address, (3, encoder.layers + 1, 2 * width + 2), partial(_summed, encoder, block)
    ).astype(np.float64)
    whole = kept.sum(0)
    return _Moments(
        frames=round(float(whole[0, -1])),
        sums=whole[:, :width],
        squares=whole[:, width : 2 * width],
        lengths=whole[:, -2],
    )


def _summed(encoder: Encoder, block: Sequence[Clip]) -> Iterator[NDArray[np.float32]]:
    """Sums as three float32 numbers that add up to the float64 one: what is stored has no other type."""
    own = [_moments_of(_states(encoder, clip)) for clip in block]
    frames = np.full((encoder.layers + 1, 1), sum(one.frames for one in own), np.float64)
    left = np.concatenate(
        [
            np.sum([one.sums for one in own], axis=0),
            np.sum([one.squares for one in own], axis=0),
            np.sum([one.lengths for one in own], axis=0)[:, None],
            frames,
        ],
        axis=1,
    )
    for _ in range(3):
        piece = left.astype(np.float32)
        left = left - piece
        yield piece[None]


def _scale(moments: Sequence[_Moments]) -> tuple[Tensor, Tensor]:
    """Mean and spread of each feature of each state over all frames, (L, 1, D) each."""
    frames = sum(one.frames for one in moments)
    mean = np.sum([one.sums for one in moments], axis=0) / frames
    squares = np.sum([one.squares for one in moments], axis=0)
    variance = (squares - frames * mean**2) / max(frames - 1, 1)
    spread = np.sqrt(np.maximum(variance, LEAST_SPREAD**2))
    return torch.from_numpy(mean).float()[:, None], torch.from_numpy(spread).float()[:, None]


def _fits(
    encoder: Encoder,
    block: Sequence[Clip],
    queries: Sequence[Sequence[Tensor]],
    scales: Sequence[tuple[Tensor, Tensor]],
) -> Iterator[NDArray[np.float32]]:
    """How well all queries fit into each document of a block with each state, (1, L, Q) each."""
    moved = [(mean.to(encoder.device), spread.to(encoder.device)) for mean, spread in scales]
    ready = [
        _directions(torch.cat(list(own), dim=1), scale) for own, scale in zip(queries, moved, strict=True)
    ]
    starts = [np.cumsum([0, *(one.shape[1] for one in own)]) for own in queries]
    for clip in block:
        states_LFD = _states(encoder, clip)
        directed = [_directions(states_LFD, scale) for scale in moved]
        yield np.stack(
            [
                np.concatenate(
                    [
                        fits(asked[state], start, document[state])
                        for asked, start, document in zip(ready, starts, directed, strict=True)
                    ]
                )
                for state in range(len(states_LFD))
            ]
        )[None]


def _directions(states_LFD: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    """Scaled, each vector then of length 1."""
    mean, spread = scale
    return nn.functional.normalize((states_LFD - mean) / spread, dim=2)

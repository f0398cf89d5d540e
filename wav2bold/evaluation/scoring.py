"""Brain scores of any encoder on any shards: a ridge fitted on the training stories, tested on others."""

# N rows, V targets, P features

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows
from wav2bold.errors import DataError
from wav2bold.evaluation.audience import Audience, Listener, places_in
from wav2bold.evaluation.evaluated import Scored
from wav2bold.evaluation.intervals import resampled_scores
from wav2bold.evaluation.per_target import per_target
from wav2bold.evaluation.regions import members_of
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.hearing import hearing_of
from wav2bold.trainables.reading import states_read
from wav2bold.trainables.ridge import decompose
from wav2bold.trainables.scores import brain_score
from wav2bold.trainables.stage1 import fit_head_in_noise, fit_noise_of

Predicting = Callable[[Listener], NDArray[np.float32]]
"""Predicts a listener's test windows, (N, V), with a head fitted on its training windows."""


def score_encoder(
    encoder: Encoder,
    audience: Audience,
    store: ActivationStore,
    configuration: Configuration,
    *,
    regions: bool = False,
) -> Iterator[Scored]:
    """The encoder's scores with everyone in the audience, each with a ridge of its own.

    configuration: how the encoder hears and is read.  regions: whether a region of targets is scored, too.
    With `noise: white`, those who heard the same share one decomposition; with `noise: ar`, each has its own,
    in the noise that the encoder leaves over.
    """
    features = features_of(encoder, audience, store, configuration)
    ridge = _ridge_in_noise if configuration.noise == "ar" else plain_ridge
    predicting = ridge(*features, audience, configuration.history)
    yield from _scored(encoder, audience, predicting, None, regions)


def score_layers(
    encoder: Encoder,
    audience: Audience,
    store: ActivationStore,
    configuration: Configuration,
    *,
    regions: bool = False,
) -> Iterator[Scored]:
    """The same of every hidden state by itself; how, see `predicting_by_layer`."""
    for number, predicting in predicting_by_layer(encoder, audience, store, configuration):
        yield from _scored(encoder, audience, predicting, number, regions)


def predicting_by_layer(
    encoder: Encoder,
    audience: Audience,
    store: ActivationStore,
    configuration: Configuration,
    first: int = 0,
) -> Iterator[tuple[int, Predicting]]:
    """Each hidden state's number and what predicts from it alone, from one pass of the encoder.

    first: the lowest of them; above the last, nothing is heard.

    In windows and with plain ridge, whatever the configuration says, so that all subjects share one
    decomposition of each state.
    """
    numbers = tuple(range(first, encoder.layers + 1))
    if not numbers:
        return
    train, test = audience.rows
    heard = [
        Hearing(
            encoder,
            audience.shards,
            store,
            some,
            configuration.history,
            Boundary("layer", encoder.layers),
            configuration.pooling,
            numbers,
        )
        for some in (train, test)
    ]
    for number in numbers:
        features = without_drift(audience, heard[0].frozen_state(number), heard[1].frozen_state(number))
        yield number, plain_ridge(*features, audience, configuration.history)


def features_of(
    encoder: Encoder, audience: Audience, store: ActivationStore, configuration: Configuration
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, P) features without drift of everyone's training and test rows, as the configuration reads them."""
    train, test = (
        features_of_rows(encoder, audience.shards, store, rows, configuration) for rows in audience.rows
    )
    return train, test


def features_of_rows(
    encoder: Encoder,
    shards: Shards,
    store: ActivationStore,
    rows: Windows,
    configuration: Configuration,
    layer_weights: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(N, P) features without drift. layer_weights: (K,) trained ones; None for equal ones."""
    top = Boundary("layer", states_read(encoder, configuration.layers)[-1])
    hearing = hearing_of(encoder, shards, store, rows, configuration, top)
    features = hearing.frozen_pooled if layer_weights is None else hearing.frozen_features(layer_weights)
    return Drift(rows, shards.card.cleaning).removed(features)


def plain_ridge(
    train: NDArray[np.float32], test: NDArray[np.float32], audience: Audience, history: int
) -> Predicting:
    """Ridge on features of everyone's rows, decomposed once. train, test: (N, P)."""
    rows_train, rows_test = audience.rows
    shared = decompose(train, rows_train.story, guard=history)

    def predict(listener: Listener) -> NDArray[np.float32]:
        y = np.full((len(rows_train), listener.train.y.shape[1]), np.nan, np.float32)
        y[places_in(rows_train, listener.train)] = listener.train.y
        return shared.fit(y).predict(test[places_in(rows_test, listener.test)])

    return predict


def _ridge_in_noise(
    train: NDArray[np.float32], test: NDArray[np.float32], audience: Audience, history: int
) -> Predicting:
    """Likewise, each listener's own, in the noise that it leaves over."""
    rows_train, rows_test = audience.rows
    tr_s = audience.shards.card.tr_s

    def predict(listener: Listener) -> NDArray[np.float32]:
        own = train[places_in(rows_train, listener.train)]
        noise = fit_noise_of(own, listener.train, tr_s, history)
        head = fit_head_in_noise(own, listener.train, tr_s, noise, guard=history)
        return head.predict(test[places_in(rows_test, listener.test)])

    return predict


def without_drift(
    audience: Audience, train: NDArray[np.float32], test: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of everyone's rows without the drift that cleaning took out of BOLD. train, test: (N, P)."""
    cleaning = audience.shards.card.cleaning
    rows_train, rows_test = audience.rows
    return Drift(rows_train, cleaning).removed(train), Drift(rows_test, cleaning).removed(test)


def _scored(
    encoder: Encoder, audience: Audience, predicting: Predicting, layer: int | None, regions: bool
) -> Iterator[Scored]:
    tr_s = audience.shards.card.tr_s
    for listener in audience.listeners():
        test, predicted = listener.test, predicting(listener)
        if regions and not listener.regions:
            raise DataError(
                f"{audience.shards.root}: targets of {listener.subject} are in no named region",
                "prepare them with targets.parcellation",
            )
        members = members_of(listener.regions if regions else {}, len(listener.ceiling))
        drawn = resampled_scores(test.y, [predicted], test.story, tr_s, np.stack(list(members.values())))
        found = per_target(test.y, predicted, test.story, tr_s, listener.ceiling)
        for number, (region, inside) in enumerate(members.items()):
            interval = drawn.interval(0, number)
            yield Scored(
                encoder=encoder.name,
                subject=listener.subject,
                layer=layer,
                region=region,
                score=interval,
                of_ceiling=interval.value / (brain_score(listener.ceiling[inside]) or float("nan")),
                r2=brain_score(found.r2[inside]),
                predicted=int(found.predicted[inside].sum()),
                targets=int(inside.sum()),
                volumes=len(test),
                per_target=found if region is None else None,
            )

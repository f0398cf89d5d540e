"""The brain score of every hidden state: what a curve over layers needs, and no more."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wav2bold.config import Configuration
from wav2bold.evaluation.audience import Audience
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.evaluation.intervals import Interval, resampled_scores
from wav2bold.evaluation.regions import members_of
from wav2bold.evaluation.scoring import predicting_by_layer
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.scores import brain_score, pearson
from wav2bold.trainables.unfreezing import lowest_boundary


def layer_scores(
    encoder: Encoder,
    audience: Audience,
    store: ActivationStore,
    configuration: Configuration,
    name: str,
    *,
    intervals: bool,
    first: int = 0,
) -> Iterator[LayerScore]:
    """Every hidden state from `first` on with everyone in the audience, and with each region that has a name.

    name: what the encoder is called.  The scores are those of `score_layers`, without tests of targets.
    intervals: by a bootstrap over time, which takes longer than all else where targets are many; a mean over
    subjects needs none.
    """
    tr_s, nothing = audience.shards.card.tr_s, float("nan")
    for layer, predicting in predicting_by_layer(encoder, audience, store, configuration, first):
        for listener in audience.listeners():
            test, predicted = listener.test, predicting(listener)
            members = members_of(listener.regions, len(listener.ceiling))
            if intervals:
                inside = np.stack(list(members.values()))
                drawn = resampled_scores(test.y, [predicted], test.story, tr_s, inside)
                found = [drawn.interval(0, number) for number in range(len(members))]
            else:
                r = pearson(test.y, predicted)
                found = [Interval(brain_score(r[own]), nothing, nothing) for own in members.values()]
            for region, score in zip(members, found, strict=True):
                yield LayerScore(name, listener.subject, layer, region, score)


def first_changed(encoder: Encoder, folder: Path, frozen: str) -> int:
    """The lowest hidden state that refinement can have changed; 0 if it came from another encoder.

    encoder: the refined one, from `folder`.  frozen: digest of the encoder that it is compared with.
    """
    origin = origin_of(folder)
    if origin is None or origin["encoder"] != frozen:
        return 0
    boundary = lowest_boundary(encoder, Configuration.load(folder / "config.yaml"))
    return boundary.layer + 1 if boundary.at == "layer" else 0

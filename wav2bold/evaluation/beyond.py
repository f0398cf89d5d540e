"""What an encoder explains beyond low-level features of the sound."""

from collections.abc import Iterator

from wav2bold.config import Configuration
from wav2bold.evaluation.audience import Audience, places_in
from wav2bold.evaluation.banded import banded_predictions
from wav2bold.evaluation.evaluated import Beyond
from wav2bold.evaluation.intervals import resampled_scores
from wav2bold.evaluation.low_level import low_level
from wav2bold.evaluation.scoring import features_of, without_drift
from wav2bold.evaluation.shares import explained_variance
from wav2bold.evaluation.significance import improvement_p, significant
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.scores import brain_score


def beyond_low_level(
    encoder: Encoder, audience: Audience, store: ActivationStore, configuration: Configuration, seed: int
) -> Iterator[Beyond]:
    """Everyone in the audience in turn. Plain ridge, whatever the configuration says of noise."""
    rows_train, rows_test = audience.rows
    history, tr_s = configuration.history, audience.shards.card.tr_s
    heard = features_of(encoder, audience, store, configuration)
    sound = without_drift(audience, *(low_level(audience.shards, rows, history) for rows in audience.rows))
    for listener in audience.listeners():
        train, test = places_in(rows_train, listener.train), places_in(rows_test, listener.test)
        y, story = listener.test.y, listener.test.story
        low, alone, both = (
            banded_predictions(
                [one[0][train] for one in bands],
                [one[1][test] for one in bands],
                listener.train.y,
                listener.train.story,
                history,
                seed,
            )
            for bands in ([sound], [heard], [sound, heard])
        )
        drawn = resampled_scores(y, [low, alone, both], story, tr_s)
        yield Beyond(
            encoder=encoder.name,
            subject=listener.subject,
            low_level=drawn.interval(0),
            alone=drawn.interval(1),
            both=drawn.interval(2),
            gain=drawn.interval(2, minus=0),
            unique_r2=brain_score(explained_variance(y, both) - explained_variance(y, low)),
            improved=int(significant(improvement_p(y, low, both, story, tr_s)).sum()),
            targets=y.shape[1],
            volumes=len(y),
        )

"""Brain score of one subject against how many minutes of their data a ridge is fitted on."""

from collections.abc import Sequence

from wav2bold.config import Configuration
from wav2bold.datasets.budget import first_minutes
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import windows
from wav2bold.evaluation.intervals import Resampled, resampled_scores
from wav2bold.evaluation.scoring import features_of_rows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.noise import WHITE
from wav2bold.trainables.stage1 import fit_head_in_noise, fit_noise_of


def scores_by_minutes(
    encoder: Encoder,
    shards: Shards,
    store: ActivationStore,
    stories: Stories,
    subject: str,
    configuration: Configuration,
    longest_history: int,
    minutes: Sequence[float],
) -> Resampled:
    """Scores on the test stories after so many minutes of the training stories, a prediction for each.

    Draws are of the same volumes whatever the encoder. Raises DataError for more minutes than there are.
    """
    train = windows(shards, [subject], stories.train, longest_history)
    test = windows(shards, [subject], stories.test, longest_history)
    features = features_of_rows(encoder, shards, store, train, configuration)
    heard = features_of_rows(encoder, shards, store, test, configuration)
    tr_s, guard = shards.card.tr_s, configuration.history
    predictions = []
    for some in (first_minutes(train, tr_s, each) for each in minutes):
        own, noise = features[: len(some)], WHITE
        if configuration.noise == "ar":
            noise = fit_noise_of(own, some, tr_s, guard)
        predictions.append(fit_head_in_noise(own, some, tr_s, noise, guard=guard).predict(heard))
    return resampled_scores(test.y, predictions, test.story, tr_s)

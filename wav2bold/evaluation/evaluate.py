"""One subject's refined encoder against the frozen one, on stories that nothing else touched."""

from pathlib import Path

import numpy as np

from wav2bold.datasets.shards import Shards
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import windows
from wav2bold.evaluation.audience import named_regions
from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.evaluation.intervals import resampled_scores
from wav2bold.evaluation.regions import members_of, region_scores
from wav2bold.evaluation.scoring import features_of_rows
from wav2bold.evaluation.shares import explained_variance
from wav2bold.evaluation.significance import PAIRED_BLOCK_S, improvement_p, prediction_p, significant
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.checkpoint import load_refined
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.noise import WHITE, Clock
from wav2bold.trainables.people import refuse_other_places
from wav2bold.trainables.refine import white_scores
from wav2bold.trainables.scores import paired_gain, pearson
from wav2bold.trainables.stage1 import fit_head_in_noise, fit_noise_of


def evaluate(
    encoder: Encoder,
    shards: Shards,
    store: ActivationStore,
    stories: Stories,
    subject: str,
    folder: Path,
    longest_history: int,
) -> Evaluation:
    """Score the refined encoder in `folder` and the pretrained `encoder` on `subject`'s test stories.

    Where several were refined together, the head's own score is with this subject's part of it, or with the
    shared one, which need not have been fitted to them.
    Where hidden states are summed, both ridges sum them with equal weights: trained ones belong to the head.
    Where it was refined with a model of noise, both ridges have the one that the pretrained encoder's leaves.
    Raises DataError if its head is others' own, or a shared one of other places.
    """
    kept = load_refined(folder, encoder.device)
    options, columns = kept.configuration, kept.columns_of(subject)
    if options.head == "shared":
        refuse_other_places(shards, np.append(kept.people, subject))
    train = windows(shards, [subject], stories.train, longest_history)
    test = windows(shards, [subject], stories.test, longest_history)
    frozen = features_of_rows(encoder, shards, store, train, options)
    noise = WHITE
    if options.noise == "ar":
        noise = fit_noise_of(frozen, train, shards.card.tr_s, options.history)
    refined, heard = (features_of_rows(kept.encoder, shards, store, some, options) for some in (train, test))
    before, after = (
        fit_head_in_noise(features, train, shards.card.tr_s, noise, guard=options.history).predict(
            features_of_test
        )
        for features, features_of_test in (
            (frozen, features_of_rows(encoder, shards, store, test, options)),
            (refined, heard),
        )
    )
    if kept.layer_weights is not None:
        heard = features_of_rows(kept.encoder, shards, store, test, options, kept.layer_weights)
    own = kept.head.predict(heard)[:, columns]
    tr_s, story = shards.card.tr_s, test.story
    predictions = {"frozen": before, "ridge": after, "head": own}
    regions = named_regions(shards.targets(subject))
    members = np.stack(list(members_of(regions, test.y.shape[1]).values()))
    drawn = resampled_scores(test.y, (before, after, own), story, tr_s, members)
    clock = Clock.of(test, tr_s)
    block = max(round(PAIRED_BLOCK_S / tr_s), 1)
    likely = {
        name: significant(prediction_p(test.y, predicted, story, tr_s))
        for name, predicted in (("frozen", before), ("ridge", after))
    }
    improved = significant(improvement_p(test.y, before, after, story, tr_s))
    return Evaluation(
        subject=subject,
        history=options.history,
        frozen=pearson(test.y, before),
        ridge=pearson(test.y, after),
        head=pearson(test.y, own),
        gain_ridge=paired_gain(test.y, before, after, block),
        gain_head=paired_gain(test.y, before, own, block),
        intervals={
            "frozen": drawn.interval(0),
            "ridge": drawn.interval(1),
            "head": drawn.interval(2),
            "gain_ridge": drawn.interval(1, minus=0),
            "gain_head": drawn.interval(2, minus=0),
        },
        r2={name: explained_variance(test.y, predicted) for name, predicted in predictions.items()},
        white={
            name: white_scores(noise, clock, test.y, predicted) for name, predicted in predictions.items()
        },
        predicted=likely,
        improved=improved,
        regions=region_scores(regions, drawn, likely["ridge"], improved),
        volumes=len(test),
        folder=folder,
    )

"""Refinement on pure noise helps no speech task."""

import re
from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest

from wav2bold.config import Study
from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.superb.protocol import Options, Score
from wav2bold.trainables.superb.scoring import score_tasks

pytestmark = pytest.mark.slow


def by_recording(score: Score) -> Score:
    """The same, with all takes of a word drawn together: they are one prompt, said again in other ways."""
    words = [re.sub(r"\d*\.wav$", "", name) for name in score.unit]
    return replace(score, unit=np.array(words))


def test_the_noise_subjects_encoder_gains_nothing_in_keywords(learned: Study, tmp_path: Path) -> None:
    corpora.speech_commands(tmp_path / "data")
    store = ActivationStore(tmp_path / "store")
    encoders = [load_encoder(name) for name in (learned.encoder, str(learned.results / "refined/sub-null1"))]
    for seed in range(3):
        options = Options(updates=300, rates=(1e-2, 1e-3), seed=seed)
        before, after = (
            by_recording(
                score_tasks(one, ["ks"], tmp_path / "data", tmp_path / place, store, options)["ks"][0]
            )
            for one, place in zip(encoders, ("before", "after"), strict=True)
        )
        change = utterance_interval(after, before)
        assert len(np.unique(before.unit)) == 14, "13 words and silence"
        assert change.low <= 0 <= change.high
        assert change.high - change.low < 0.7, "it tells something"

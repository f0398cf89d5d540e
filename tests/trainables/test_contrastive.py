"""The contrastive loss is that of transformers' Wav2Vec2ForPreTraining, and so are masks and negatives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import save_small_wav2vec2
from scipy import stats
from transformers import Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from wav2bold.errors import EncoderError
from wav2bold.trainables.contrastive import SHARE, SPAN, contrast, load_head, mask, negatives

FRAMES, WINDOWS = 449, 200  # of 9 s
"""Of the paper: 6 TRs of 1.5 s."""


def test_as_many_frames_are_masked_and_as_far_apart_as_transformers_does() -> None:
    random = np.random.default_rng(0)
    ours = np.stack([mask(FRAMES, random) for _ in range(WINDOWS)])
    np.random.seed(0)  # noqa: NPY002  transformers draws from there
    theirs = np.concatenate(
        [_compute_mask_indices((8, FRAMES), SHARE, SPAN, min_masks=2) for _ in range(WINDOWS // 8)]
    )
    assert 0.4 < theirs.mean() < 0.6
    assert stats.ks_2samp(ours.sum(1), theirs.sum(1)).pvalue > 0.01
    gaps = [np.diff(np.flatnonzero(some.ravel())) for some in (ours, theirs)]
    assert stats.ks_2samp(*(one[one > 1] for one in gaps)).pvalue > 0.01
    assert stats.kstest(np.nonzero(ours)[1] / FRAMES, "uniform").statistic < 0.03


@pytest.mark.parametrize("frames", [20, 24, 50])
def test_short_windows_have_two_spans_and_something_to_hear(frames: int) -> None:
    random = np.random.default_rng(1)
    masked = np.stack([mask(frames, random) for _ in range(500)])
    assert (masked.sum(1) > SPAN).all()
    assert masked.sum(1).min() <= 2 * SPAN
    assert (~masked).any(1).mean() > 0.9


def test_negatives_are_every_other_masked_frame_of_the_window_equally_often() -> None:
    for frames in (12, 30):
        window = negatives(frames, 3000, np.random.default_rng(2))
        counts = np.array([np.bincount(row, minlength=frames) for row in window])
        assert (counts[np.eye(frames, dtype=bool)] == 0).all()
        others = counts[~np.eye(frames, dtype=bool)]
        assert stats.chisquare(others.reshape(frames, -1), axis=1).pvalue.min() > 1e-4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2ForPreTraining:
    """Few codes, so that negatives are often the same one."""
    folder = save_small_wav2vec2(
        tmp_path_factory.mktemp("encoder"), "large", num_codevectors_per_group=4, num_negatives=20
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Wav2Vec2ForPreTraining.from_pretrained(folder).eval()


def test_the_loss_of_a_window_is_transformers_own(whole: Wav2Vec2ForPreTraining) -> None:
    """Evaluating: there the choice of codes is not random."""
    np.random.seed(3)  # noqa: NPY002
    masked = _compute_mask_indices((3, 60), SHARE, SPAN, min_masks=2)
    others = _sample_negative_indices((3, 60), 20, masked)
    sound = torch.randn(3, 60 * 320 + 80, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        theirs = whole(
            sound,
            mask_time_indices=torch.from_numpy(masked),
            sampled_negative_indices=torch.from_numpy(others),
        )
    total = torch.zeros(())
    for number, there in enumerate(masked):
        place = np.cumsum(there) - 1  # among the window's masked frames
        chosen = torch.from_numpy(place[others[number][there] - number * 60])
        told, codes = (
            part[number][torch.from_numpy(there)]
            for part in (theirs.projected_states, theirs.projected_quantized_states)
        )
        total += contrast(told, codes, chosen, whole.config.contrastive_logits_temperature)
    assert total.item() == pytest.approx(theirs.contrastive_loss.item(), rel=1e-5)
    assert len(torch.unique(codes, dim=0)) < len(codes)


def test_a_checkpoint_gives_its_own_head_and_an_encoder_alone_one_by_the_seed(
    whole: Wav2Vec2ForPreTraining, tmp_path: Path
) -> None:
    whole.save_pretrained(tmp_path / "whole")
    whole.wav2vec2.save_pretrained(tmp_path / "alone")
    own = load_head(str(tmp_path / "whole"), 0)
    assert own.fresh == ()
    for name, part in (("quantizer", whole.quantizer), ("of_hidden", whole.project_hid)):
        for key, value in part.state_dict().items():
            assert torch.equal(own.get_submodule(name).state_dict()[key], value)
    assert torch.equal(own.mask, whole.wav2vec2.masked_spec_embed)
    one, two, other = (load_head(str(tmp_path / "alone"), seed) for seed in (5, 5, 6))
    assert {name.partition(".")[0] for name in one.fresh} == {"quantizer", "project_hid", "project_q"}
    for name, value in one.named_parameters():
        assert torch.equal(value, two.get_parameter(name))
    assert not torch.equal(one.quantizer.codevectors, other.quantizer.codevectors)
    assert own.quantizer.temperature < one.quantizer.temperature


def test_an_impossible_head_is_named(whole: Wav2Vec2ForPreTraining, tmp_path: Path) -> None:
    whole.wav2vec2.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"codevector_dim": 256', '"codevector_dim": 255'))
    with pytest.raises(EncoderError, match=r"describes no head of pre-training \(.*255.*\); mend its config"):
        load_head(str(tmp_path), 0)

"""The heads of pr and asr: from every frame's hidden states to phones or characters."""

# B utterances, L hidden states, F frames, D features, P projected, C classes

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

BLANK = 0
"""CTC's class of no token; tokens count from 1."""
DROPOUT = 0.2
WARP = 5
"""Frames by which the middle moves at most. Widths and counts, too, are the reference's for asr."""
TIME_MASKS, TIME_WIDTH = 2, 40
FEATURE_MASKS, FEATURE_WIDTH = 4, 50
ADAPTED, MOST_MASKS = 0.04, 20
"""Share of an utterance's frames that is the number and the width of masks in time where they adapt."""


class FrameHead(nn.Module):
    """The featurizer's weighted sum, a projection, and logits of each frame.

    recurrent: width of the two bidirectional LSTMs between them; None for none.
    """

    def __init__(
        self,
        layers: int,
        features: int,
        projected: int,
        classes: int,
        recurrent: int | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.Parameter(torch.zeros(layers))
        self.project = nn.Linear(features, projected)
        widths = [] if recurrent is None else [projected, 2 * recurrent]
        self.recurrent = nn.ModuleList(
            nn.LSTM(width, recurrent or 0, bidirectional=True, batch_first=True) for width in widths
        )
        self.classify = nn.Linear(projected if recurrent is None else 2 * recurrent, classes)

    def forward(self, states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, F, C) of utterances (L, F, D), padded at their ends, and frames (B,)."""
        summed = weighed(self.layers, states)
        frames_B = torch.tensor([len(one) for one in summed])
        hidden_BFP = self.project(pad_sequence(summed, batch_first=True))
        if len(self.recurrent):
            packed = pack_padded_sequence(hidden_BFP, frames_B, batch_first=True, enforce_sorted=False)
            for layer in self.recurrent:
                packed = layer(packed)[0]
                kept = nn.functional.dropout(packed.data, DROPOUT, self.training)
                packed = packed._replace(data=kept)
            hidden_BFP, _ = pad_packed_sequence(packed, batch_first=True)
        return self.classify(hidden_BFP).log_softmax(2), frames_B


def weighed(layers: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
    """Weighted sums (F, D) of hidden states (L, F, D) by the featurizer's scalars."""
    weights = layers.softmax(0)
    return [torch.tensordot(weights, one, dims=1) for one in states]


def augmented(states_LFD: Tensor, adapts: bool = False) -> Tensor:
    """SpecAugment (Park et al. 2019): time bent about a frame, stretches of features and frames set to 0.

    The reference does that to the weighted sum; as it is linear and alike for all hidden states, it may come
    before the sum, and then once for all heads that hear the same.
    adapts: whether number and width of the latter grow with the utterance (Park et al. 2020), as in sf.
    """
    bent_LFD = _bent(states_LFD)
    keep_FD = torch.ones_like(bent_LFD[0])
    in_time = TIME_MASKS, TIME_WIDTH
    if adapts:
        share = int(ADAPTED * len(keep_FD))
        in_time = min(share, MOST_MASKS), min(share, TIME_WIDTH)
    for axis, masks, most in ((1, FEATURE_MASKS, FEATURE_WIDTH), (0, *in_time)):
        if not masks:
            continue
        length = keep_FD.shape[axis]
        widths = torch.randint(0, most, (masks,))
        starts = torch.randint(0, max(1, length - int(widths.max())), (masks,))
        for start, width in zip(starts.tolist(), widths.tolist(), strict=True):
            keep_FD.narrow(axis, start, min(width, length - start)).zero_()
    return bent_LFD * keep_FD


def _bent(states_LFD: Tensor) -> Tensor:
    _, frames, features = states_LFD.shape
    if frames <= 2 * WARP:
        return states_LFD
    centre = int(torch.randint(WARP, frames - WARP, ()))
    moved = int(torch.randint(centre - WARP, centre + WARP, ())) + 1
    parts = [
        nn.functional.interpolate(part[None], (size, features), mode="bicubic", align_corners=False)[0]
        for part, size in ((states_LFD[:, :centre], moved), (states_LFD[:, centre:], frames - moved))
    ]
    return torch.cat(parts, dim=1)


def ctc_loss(log_probabilities_BFC: Tensor, frames_B: Tensor, tokens: Sequence[Tensor]) -> Tensor:
    """Sum over utterances of CTC's loss by tokens; what can't be told in so few frames counts nothing."""
    lengths_B = torch.tensor([len(one) for one in tokens])
    losses_B = nn.functional.ctc_loss(
        log_probabilities_BFC.transpose(0, 1),
        torch.cat(list(tokens)).to(log_probabilities_BFC.device),
        frames_B,
        lengths_B,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return (losses_B / lengths_B.clamp(min=1).to(losses_B.device)).sum()


def told_tokens(log_probabilities_BFC: Tensor, frames_B: Tensor) -> list[list[int]]:
    """The likeliest token of each frame; repetitions are one, blanks are none."""
    best_BF = log_probabilities_BFC.argmax(2).cpu()
    found = []
    for best_F, frames in zip(best_BF, frames_B.tolist(), strict=True):
        tokens = best_F[:frames].unique_consecutive()
        found.append(tokens[tokens != BLANK].tolist())
    return found

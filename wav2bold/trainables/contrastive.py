"""wav2vec2's own objective: which of many codes is that of a frame which was not heard.

Spans of frames are masked where positions and transformer would hear them. Of every masked frame the
encoder's output is compared with the frame's own code and with those of other masked frames of its window
(Baevski et al. 2020, arXiv 2006.11477, section 3).
"""

# B windows, F frames, M masked frames, K negatives, C convolution channels, D hidden features, P compared

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Wav2Vec2ForPreTraining

from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import UNREADABLE

SPAN = 10
"""Frames in a masked span, 200 ms; with SHARE as in the paper's pre-training (section 4.2)."""
SHARE = 0.65
"""Masked frames to frames if spans never met: 0.065 of frames begin one. Published config.json files hold
what fine-tuning masks, a tenth of that, so theirs is not taken."""
FEWEST_SPANS = 2
"""In a window, so that there are other masked frames to compare with."""
COLDEST, WARMEST = 0.5, 2.0
"""Temperatures between which pre-training cools the choice of codes, by 5 millionths a step (section 4.2)."""


class ContrastHead(nn.Module):
    """What turns masked frames into a loss; pre-training has it on top of the encoder.

    quantizer: codes of frames.  of_hidden, of_code: bring hidden states and codes to P features.
    mask: (D,) what stands for a masked frame.  fresh: names of its parts that no checkpoint held.
    """

    def __init__(self, whole: Wav2Vec2ForPreTraining, fresh: tuple[str, ...]) -> None:
        super().__init__()
        self.quantizer, self.of_hidden, self.of_code = whole.quantizer, whole.project_hid, whole.project_q
        self.mask = whole.wav2vec2.masked_spec_embed
        self.fresh = fresh
        self.negatives = int(whole.config.num_negatives)
        self._temperature = float(whole.config.contrastive_logits_temperature)
        self._diversity = float(whole.config.diversity_loss_weight)
        self._codes = self.quantizer.num_groups * self.quantizer.num_vars
        new = any(name.startswith("quantizer") for name in fresh)
        vars(self.quantizer)["temperature"] = WARMEST if new else COLDEST
        self.requires_grad_(True).train()  # to the quantizer: draw codes by chance, with gradient

    def forward(
        self, normed_MC: Tensor, hidden_MD: Tensor, masked: Sequence[int], negatives_MK: Tensor
    ) -> Tensor:
        """Mean loss of a step's masked frames: contrast, and that codes are used evenly.

        normed_MC: what the convolutions gave of them, normalised.  hidden_MD: the encoder's output there.
        masked: how many are of each window.  negatives_MK: places among the window's own.
        """
        codes_MC, perplexity = self.quantizer(normed_MC[None])
        codes_MP, told_MP = self.of_code(codes_MC[0]), self.of_hidden(hidden_MD)
        counts = list(masked)
        windows = zip(told_MP.split(counts), codes_MP.split(counts), negatives_MK.split(counts), strict=True)
        total = torch.stack([contrast(*one, temperature=self._temperature) for one in windows]).sum()
        unused: Tensor = (self._codes - perplexity) / self._codes
        return total / len(hidden_MD) + self._diversity * unused


def contrast(told_MP: Tensor, codes_MP: Tensor, negatives_MK: Tensor, temperature: float) -> Tensor:
    """Sum over a window's masked frames of the cross-entropy of their own code among K others.

    Likeness is a cosine over a temperature. A negative with the very same code is left out.
    """
    told_MP, codes_MP = (nn.functional.normalize(part, dim=1, eps=1e-8) for part in (told_MP, codes_MP))
    likeness_MM = told_MP @ codes_MP.T / temperature
    _, code_M = torch.unique(codes_MP.detach(), dim=0, return_inverse=True)
    same_MK = code_M[negatives_MK] == code_M[:, None]
    others_MK = likeness_MM.gather(1, negatives_MK).masked_fill(same_MK, -torch.inf)
    logits = torch.cat([likeness_MM.diagonal()[:, None], others_MK], dim=1)
    own = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return nn.functional.cross_entropy(logits, own, reduction="sum")


def mask(frames: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """(F,) which frames of a window are masked: spans, which may meet."""
    spans = max(int(SHARE * frames / SPAN + random.random()), FEWEST_SPANS)
    starts = random.choice(frames - SPAN + 1, spans, replace=False)
    masked = np.zeros(frames, bool)
    masked[(starts[:, None] + np.arange(SPAN)).ravel()] = True
    return masked


def negatives(masked: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """(M, K) for every masked frame of a window, places of so many others among them."""
    others = random.integers(0, masked - 1, (masked, count))
    return np.asarray(others + (others >= np.arange(masked)[:, None]))


def load_head(name: str, seed: int) -> ContrastHead:
    """The head of pre-training that an encoder's checkpoint holds, on the processor.

    seed: of what it lacks; an encoder saved by itself lacks all of it.
    Raises EncoderError if its config.json describes no such head.
    """
    loaded: Any
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            loaded = Wav2Vec2ForPreTraining.from_pretrained(
                name,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                mask_time_prob=SHARE,  # without it there is no parameter for what is masked
            )
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise EncoderError(
            f"objective: pretrain: {name} describes no head of pre-training ({reason})",
            "mend its config.json, or set objective: brain",
        ) from None
    whole, loading = loaded
    absent = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    return ContrastHead(whole, tuple(sorted(key.removeprefix("wav2vec2.") for key in absent)))

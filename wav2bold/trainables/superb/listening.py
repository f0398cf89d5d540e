"""Hidden states of utterances, frame by frame, for heads that need every one."""

# L hidden states, F frames, D features

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.superb.clips import Clip, samples_of, sound_of
from wav2bold.trainables.superb.hidden import all_states, check_frames

BYTES_AT_ONCE = BYTES_KEPT = 10**9
"""Of hidden states that heads see together: 25,000 frames of the base size, a batch of 32 at 15 s."""


class Listener:
    """An encoder that hears utterances, each by itself and so without padding, and remembers some.

    Those heard first are remembered, as far as BYTES_KEPT goes: of a small data set all of them.
    """

    def __init__(self, encoder: Encoder, clips: Sequence[Clip]) -> None:
        self.encoder, self._clips = encoder, clips
        self._kept: dict[int, Tensor] = {}
        self._room = BYTES_KEPT

    def __call__(self, rows: NDArray[np.int64]) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Hidden states of clips by number, as many together as there is room for, the longest first.

        Places in `rows`, and (L, F, D) of each.
        """
        places, states, size = list[int](), list[Tensor](), 0
        lengths = [samples_of(self._clips[int(row)]) for row in rows]
        for place in np.argsort(lengths, kind="stable")[::-1].tolist():
            one = self._heard(int(rows[place]))
            if places and size + one.nbytes > BYTES_AT_ONCE:
                yield places, states
                places, states, size = [], [], 0
            places.append(place)
            states.append(one)
            size += one.nbytes
        if places:
            yield places, states

    def _heard(self, row: int) -> Tensor:
        found = self._kept.get(row)
        if found is not None:
            return found
        sound = sound_of(self._clips[row])
        check_frames(self.encoder, self._clips[row], len(sound))
        states_LFD = all_states(self.encoder, sound[None])[:, 0]
        if states_LFD.nbytes <= self._room:
            self._room -= states_LFD.nbytes
            self._kept[row] = states_LFD
        return states_LFD

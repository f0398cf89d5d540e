"""What a refinement takes, before any is begun: bytes of memory and of the activation store."""

# N windows, F frames, C convolution channels, D hidden features, P head features, V targets

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Configuration, StoredType
from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows, window_length, window_stop
from wav2bold.trainables.checked_arrays import TYPES
from wav2bold.trainables.encoder import Boundary, Encoder
from wav2bold.trainables.features import FRAMES_AT_ONCE, WINDOWS_AT_ONCE
from wav2bold.trainables.pretraining import below_masks
from wav2bold.trainables.reading import states_read, trained_whole
from wav2bold.trainables.ridge import MAX_BYTES
from wav2bold.trainables.stretches import Stretch, stretches_of
from wav2bold.trainables.unfreezing import adapted_modules, lowest_boundary

NUMBER = 4
"""Bytes of a float32: what is stored as less is computed as that."""
PROCESS = 720_000_000
"""A worker with Ray Tune, torch, transformers and what they load when first used: 717 MB were measured."""
FROZEN_ARRAYS = 2.5
"""Of the first convolution's output, alive at a time without gradient: itself, its norm, and what the second
convolution makes of it, of half the size. 2.4 were measured."""


@dataclass(frozen=True)
class Heard:
    """What is heard in a split, without what is measured of it.

    stops: by story, (N,) the sample at which each window ends; joint for all people.  targets: of all people
    together.
    """

    stops: Mapping[str, NDArray[np.int64]]
    targets: int

    @property
    def rows(self) -> int:
        """Windows in all."""
        return sum(map(len, self.stops.values()))


@dataclass(frozen=True)
class Memory:
    """Most bytes that one worker holds at a time, by what they hold.

    Mapped arrays of the store count nothing: the system takes their pages back.
    process: libraries.  encoder: its copies, gradients and the optimiser's moments.  targets: BOLD, and what
    stage 1 makes of it.  features: the head's.  head: its weights and their optimiser's moments.  frozen:
    what the frozen part computes for the windows that go through it at once.  trained: the same of stage 2.
    """

    process: int
    encoder: int
    targets: int
    features: int
    head: int
    frozen: int
    trained: int

    @property
    def total(self) -> int:
        """All of it: what the frozen part computes is gone when stage 2 begins."""
        parts: dict[str, int] = asdict(self)
        return sum(parts.values()) - min(self.frozen, self.trained)


def heard_in(shards: Shards, subjects: Sequence[str], stories: Sequence[str], longest: int) -> Heard:
    """What `windows` will find, from the volumes' times alone. longest: history, TRs."""
    length = window_length(shards.card.tr_s, longest)
    stops: dict[str, set[int]] = {}
    for subject in subjects:
        for story in stories:
            if story not in shards.card.subjects[subject].stories:
                continue
            end = round(shards.card.stories[story].seconds * SAMPLE_RATE_HZ)
            found = {window_stop(float(time_s)) for time_s in shards.times(subject, story)}
            stops.setdefault(story, set()).update(stop for stop in found if length <= stop <= end)
    return Heard(
        {story: np.array(sorted(some), np.int64) for story, some in stops.items() if some},
        sum(shards.card.subjects[subject].targets for subject in subjects),
    )


def stored_bytes(
    shards: Shards,
    encoder: Encoder,
    configuration: Configuration,
    splits: Sequence[Heard],
    dtype: StoredType = "float32",
) -> int:
    """Bytes of the arrays that one configuration asks the activation store for.

    splits: training, then others.  Files are larger by their headers, less than a kilobyte each. What two
    configurations share counts in both.
    """
    boundary = lowest_boundary(encoder, configuration)
    total = sum(_stored(shards, encoder, configuration, boundary, heard, dtype) for heard in splits)
    if configuration.objective == "pretrain" and below_masks(boundary) != boundary:
        train = splits[0]
        below = _below(shards, encoder, configuration, below_masks(boundary), train)
        if configuration.context == "window" and _slides(shards, encoder, configuration, train):
            below -= _story_frames(shards, encoder, train)  # the boundary's own pass stores them, too
        total += below * TYPES[dtype].itemsize
    return total


def _stored(
    shards: Shards,
    encoder: Encoder,
    configuration: Configuration,
    boundary: Boundary,
    heard: Heard,
    dtype: StoredType,
) -> int:
    pooled = heard.rows * _features(encoder, configuration) * NUMBER
    return pooled + _below(shards, encoder, configuration, boundary, heard) * TYPES[dtype].itemsize


def _below(
    shards: Shards, encoder: Encoder, configuration: Configuration, boundary: Boundary, heard: Heard
) -> int:
    """Numbers below the boundary that are stored: `_story_frames` and `_stored` of `Hearing`."""
    if boundary.at == "audio":
        return 0
    model = encoder.model.config
    width = model.conv_dim[-1] if boundary.at == "conv" else model.hidden_size
    if configuration.context == "stretch":
        stretches = _stretches(shards, configuration, heard)
        return sum(encoder.frames(one.samples) * width for one in stretches)
    slides = _slides(shards, encoder, configuration, heard)
    numbers = _story_frames(shards, encoder, heard) if slides else 0
    top = Boundary("layer", states_read(encoder, configuration.layers)[-1])
    if boundary != top and not (slides and boundary.at == "conv"):
        numbers += heard.rows * _frames(shards, encoder, configuration) * width
    return numbers


def memory_of(
    shards: Shards, encoder: Encoder, configuration: Configuration, train: Heard, validation: Heard
) -> Memory:
    """What one worker holds at most while it refines, if it has no GPU to take over encoder and trained.

    How often BOLD and features are held is counted in the code of both stages (docs/cluster.md).
    """
    sizes = {name: each.numel() for name, each in encoder.model.named_parameters()}
    trained = _trained(encoder, configuration, sizes)
    features = _features(encoder, configuration)
    rows, targets = train.rows + validation.rows, train.targets
    copies = 4 if trained else 2  # as it came, in training, the best so far, and the next best being made
    ridge = min(MAX_BYTES, 8 * train.rows * (train.rows + 2 * features))
    return Memory(
        process=PROCESS,
        encoder=NUMBER * (copies * sum(sizes.values()) + 3 * trained),
        targets=NUMBER * targets * (2 * rows + 7 * train.rows),
        features=NUMBER * features * (3 * rows + 7 * train.rows) + ridge,
        head=NUMBER * 7 * features * targets,
        frozen=_frozen_at_once(shards, encoder, configuration, train),
        trained=_trained_at_once(shards, encoder, configuration, train) if trained else 0,
    )


def _trained(encoder: Encoder, configuration: Configuration, sizes: Mapping[str, int]) -> int:
    """Numbers that stage 2 trains of the encoder: whole parameters, and both factors of each adapter."""
    trained = sum(sizes[name] for name in trained_whole(encoder, configuration))
    lora = configuration.lora
    if lora is None:
        return trained
    top = states_read(encoder, configuration.layers)[-1]
    matrices = (encoder.model.get_parameter(f"{name}.weight") for name in adapted_modules(encoder, lora, top))
    return trained + sum(lora.rank * sum(matrix.shape) for matrix in matrices)


def least_memory(
    shards: Shards, encoder: Encoder, configuration: Configuration, train: Heard, validation: Heard
) -> Memory:
    """The same with one window at a time in stage 2, to which that goes down by itself."""
    alone = configuration.model_copy(update={"micro_batch": 1})
    return memory_of(shards, encoder, alone, train, validation)


def _frozen_at_once(shards: Shards, encoder: Encoder, configuration: Configuration, heard: Heard) -> int:
    """What the convolutions hold without gradient; everything above them is smaller."""
    if configuration.context == "stretch":
        samples, count = max(one.samples for one in _stretches(shards, configuration, heard)), 1
    elif _slides(shards, encoder, configuration, heard):
        samples, count = FRAMES_AT_ONCE * encoder.stride, 1
    else:
        samples, count = window_length(shards.card.tr_s, configuration.history), WINDOWS_AT_ONCE
    model = encoder.model.config
    return int(FROZEN_ARRAYS * NUMBER * count * (samples // model.conv_stride[0]) * model.conv_dim[0])


def _trained_at_once(shards: Shards, encoder: Encoder, configuration: Configuration, heard: Heard) -> int:
    """What is kept for the way back, of the windows that go through at once.

    A transformer layer keeps about ten arrays (F, D) and two (F, intermediate): inputs of its matrices and
    norms, query, key, value and what attention gives. A convolution keeps its output, the norm's, and its
    activation.
    """
    model, boundary = encoder.model.config, lowest_boundary(encoder, configuration)
    if configuration.context == "stretch":
        samples, count = max(one.samples for one in _stretches(shards, configuration, heard)), 1
    else:
        samples = window_length(shards.card.tr_s, configuration.history)
        count = min(configuration.micro_batch or configuration.batch, configuration.batch)
    frames = encoder.frames(samples)
    layers = states_read(encoder, configuration.layers)[-1] - boundary.layer
    numbers = layers * frames * (10 * model.hidden_size + 2 * model.intermediate_size)
    if boundary.at == "audio":
        for channels, stride in zip(model.conv_dim, model.conv_stride, strict=True):
            samples //= stride
            numbers += 3 * samples * channels
    return int(NUMBER * count * numbers)


def _features(encoder: Encoder, configuration: Configuration) -> int:
    """What the store keeps of each window's hidden states, side by side."""
    rows = configuration.history if configuration.pooling in ("tr", "lanczos") else 1
    states = len(states_read(encoder, configuration.layers))
    return int(rows * states * encoder.model.config.hidden_size)


def _frames(shards: Shards, encoder: Encoder, configuration: Configuration) -> int:
    return encoder.frames(window_length(shards.card.tr_s, configuration.history))


def _slides(shards: Shards, encoder: Encoder, configuration: Configuration, heard: Heard) -> bool:
    """As `Hearing` decides it: whether windows are slices of whole stories."""
    samples = window_length(shards.card.tr_s, configuration.history)
    on_grid = all(not ((stops - samples) % encoder.stride).any() for stops in heard.stops.values())
    return encoder.convolution_is_local and on_grid


def _story_frames(shards: Shards, encoder: Encoder, heard: Heard) -> int:
    """Numbers of the convolutions' output for whole stories."""
    frames = sum(encoder.frames(_samples(shards, story)) for story in heard.stops)
    return int(frames * encoder.model.config.conv_dim[-1])


def _samples(shards: Shards, story: str) -> int:
    return round(shards.card.stories[story].seconds * SAMPLE_RATE_HZ)


def _stretches(shards: Shards, configuration: Configuration, heard: Heard) -> list[Stretch]:
    stops = np.concatenate(list(heard.stops.values()))
    story = np.concatenate([np.full(len(some), name) for name, some in heard.stops.items()])
    silent = Windows(story, stops, np.empty((len(stops), 0), np.float32), np.empty(0, np.str_), 0)
    lengths = {name: _samples(shards, name) for name in heard.stops}
    return stretches_of(silent, lengths, shards.card.tr_s, configuration.history, configuration.stretch_s)

"""Stage 2: an encoder and its head in training, one epoch after the other."""

# B windows, F frames, D hidden or C convolution channels, P head features, V targets

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import Configuration
from wav2bold.errors import UserError
from wav2bold.trainables.batches import BLOCK, Step, steps_of
from wav2bold.trainables.convolution import first_kernel
from wav2bold.trainables.drift import Drift, FollowedDrift
from wav2bold.trainables.families import SpeechModel
from wav2bold.trainables.hearing import AnyHearing
from wav2bold.trainables.optimisers import optimisers_of, restore, state_of, warmup_cosine
from wav2bold.trainables.reduced import Factors
from wav2bold.trainables.resuming import PARAMETERS, part_of
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.torch_head import Criterion, TorchHead
from wav2bold.trainables.unfreezing import put, trained_parameters

log = logging.getLogger(__name__)


class DivergedError(Exception):
    """The loss stopped being a number. args: the step, counted from 1, and the encoder's rate in it."""


class Stage2:
    """Trains an encoder, those of its parameters that require gradient, and a head, on the training windows.

    model: the encoder.  head: as it is now.  factors: as in `TorchHead`.
    micro_batch: windows that go through the encoder at once; fewer than were asked for once memory ran out.
    """

    def __init__(
        self,
        model: SpeechModel,
        hearing: AnyHearing,
        head: Head,
        criterion: Criterion,
        drift: Drift,
        configuration: Configuration,
        seed: int,
        factors: Factors | None = None,
    ) -> None:
        self._hearing, self._criterion, self._options, self._seed = hearing, criterion, configuration, seed
        device = hearing.encoder.device
        self.model = model
        named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
        self._unfrozen = [each for _, each in named]
        self._start = [each.detach().clone() for each in self._unfrozen] if configuration.anchor_l2 else []
        self._head = TorchHead(head, device, factors, first_kernel(configuration, len(head.mean)))
        weights = hearing.first_weights
        self._logits_K = (
            None if weights is None else torch.zeros(len(weights), device=device, requires_grad=True)
        )
        self._beside = [] if self._logits_K is None else [self._logits_K]
        self._of_head = [*self._head.parameters, *self._beside]
        self._beside += self._head.beside
        self._drift = FollowedDrift(drift, hearing.frozen_pooled, device)
        self._optimisers = optimisers_of(
            named,
            self._of_head,
            kind=configuration.optimiser,
            encoder_lr=configuration.encoder_lr,
            head_lr=configuration.head_lr,
            weight_decay=configuration.weight_decay,
        )
        self._block = 1 if criterion.noise.is_white else min(BLOCK, configuration.batch)
        blocks, rows = hearing.most_blocks(self._block)
        self._at_once = max(configuration.batch // rows, 1)
        self._all_steps = -(-blocks // self._at_once) * configuration.epochs
        self._schedules = self._schedules_from(0)
        self._measured = int(np.isfinite(criterion.y).sum())
        self.micro_batch = configuration.micro_batch or configuration.batch
        self._pooled = torch.compile(hearing.pooled) if configuration.compile else hearing.pooled
        self._steps = 0

    @property
    def head(self) -> Head:
        """The head as it is now."""
        return self._head.head()

    @property
    def layer_weights(self) -> NDArray[np.float32] | None:
        """(K,) weights of the hidden states as they are now, sum 1; None where they aren't summed."""
        weights_K = self._weights()
        return None if weights_K is None else weights_K.detach().cpu().numpy()

    def _weights(self) -> Tensor | None:
        return None if self._logits_K is None else torch.softmax(self._logits_K, 0)

    def epoch(self, number: int) -> float:
        """Train on every window once; mean loss of the epoch's steps, without penalties.

        number: of the epoch, from 1, which decides the order.
        Raises DivergedError if the loss stops being a number, UserError if not even one window fits into
        memory.
        """
        random = np.random.default_rng([self._seed, number])
        steps = steps_of(self._hearing.blocks(self._block, random), self._at_once, random)
        losses = [self.step(step) for step in steps]  # where the device is: asking for each would stall it
        told = torch.stack(losses).cpu().numpy()
        if not np.isfinite(told).all():
            first = self._steps - len(steps) + int(np.argmin(np.isfinite(told)))
            raise DivergedError(first + 1, self._options.encoder_lr * self._share_of_rate(first))
        return float(told.mean())

    def state(self) -> dict[str, Tensor]:
        """All that steps have changed but the head: what `restore` needs to go on from here.

        The trained parameters, what the head's weight is made of, the hidden states' weights, what the
        optimisers and the drift remember, the steps done, the micro-batch. Rates and the order of windows
        depend on the number of the step and of the epoch alone.
        """
        found = {f"{PARAMETERS}{name}": value for name, value in trained_parameters(self.model).items()}
        found |= {f"beside.{number}": value.detach().clone() for number, value in enumerate(self._beside)}
        for number, each in enumerate(self._optimisers):
            found |= {f"optimiser{number}.{name}": value for name, value in state_of(each).items()}
        found |= {f"drift.{name}": value for name, value in self._drift.state().items()}
        counters = {"steps": self._steps, "micro_batch": self.micro_batch}
        return found | {name: torch.tensor(count) for name, count in counters.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, after a beginning with the head of that time."""
        put(self.model, part_of(state, PARAMETERS))
        with torch.no_grad():
            for number, value in enumerate(self._beside):
                value.copy_(state[f"beside.{number}"])
        for number, each in enumerate(self._optimisers):
            restore(each, part_of(state, f"optimiser{number}."))
        self._drift.restore(part_of(state, "drift."))
        self._steps, self.micro_batch = int(state["steps"]), int(state["micro_batch"])
        self._schedules = self._schedules_from(self._steps)

    def _schedules_from(self, step: int) -> list[torch.optim.lr_scheduler.LambdaLR]:
        return [
            torch.optim.lr_scheduler.LambdaLR(each, self._share_of_rate, last_epoch=step - 1)
            for each in self._optimisers
        ]

    def _share_of_rate(self, step: int) -> float:
        return warmup_cosine(step, self._options.warmup_steps, self._all_steps)

    def step(self, step: Step) -> Tensor:
        """One step of the optimisers; the mean loss before it."""
        while True:
            for each in self._optimisers:
                each.zero_grad()
            try:
                loss = self._backward(step)
                break
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            self._halve()
        (self._head.penalty() / self._measured).backward()
        if self._start:
            self._anchor()
        torch.nn.utils.clip_grad_norm_([*self._unfrozen, *self._of_head], self._options.clip)
        for each in self._optimisers:
            each.step()
        for schedule in self._schedules:
            schedule.step()
        self._steps += 1
        return loss

    def _backward(self, step: Step) -> Tensor:
        """Gradients of a step's mean loss, and the loss."""
        count = max(self._criterion.count(step), 1)
        total = torch.zeros((), device=self._hearing.encoder.device)
        for number, blocks in enumerate(self._parts(step)):
            rows = np.concatenate(blocks)
            pieces = np.array_split(rows, -(-len(rows) // self.micro_batch))
            if len(pieces) == 1:
                loss = self._loss(blocks, self._features(rows, number)) / count
                loss.backward()
            else:
                loss = self._backward_in_pieces(blocks, pieces, number, count)
            total += loss.detach()
        return total

    def _backward_in_pieces(
        self,
        blocks: Sequence[NDArray[np.int64]],
        pieces: Sequence[NDArray[np.int64]],
        number: int,
        count: int,
    ) -> Tensor:
        """The same where a block doesn't fit into memory: features first, then each window's share anew."""
        with torch.no_grad():
            found = [self._features(rows, number + 1000 * k) for k, rows in enumerate(pieces)]
        features_BP = torch.cat(found)
        features_BP.requires_grad_()
        loss = self._loss(blocks, features_BP) / count
        loss.backward()
        assert features_BP.grad is not None
        grads = features_BP.grad.split([len(rows) for rows in pieces])
        for k, (rows, grad) in enumerate(zip(pieces, grads, strict=True)):
            self._features(rows, number + 1000 * k).backward(grad)
        return loss

    def _parts(self, step: Step) -> list[list[NDArray[np.int64]]]:
        """A step's blocks, together as many as fit into a micro-batch, each at least alone."""
        parts: list[list[NDArray[np.int64]]] = [[]]
        held = 0
        for block in step:
            if held and held + len(block) > self.micro_batch:
                parts.append([])
                held = 0
            parts[-1].append(block)
            held += len(block)
        return parts

    def _features(self, rows: NDArray[np.int64], number: int) -> Tensor:
        """(B, P) of windows, before their drift is taken out. number: tells pieces of a step apart."""
        return torch.cat([self._piece(part, number) for part in self._hearing.together(rows)])

    def _piece(self, rows: NDArray[np.int64], number: int) -> Tensor:
        """The same for windows that go through the encoder in one pass."""
        below = self._hearing.below(rows)
        if self._options.input_noise:
            random = torch.Generator(below.device)
            random.manual_seed(hash((self._seed, self._steps, number, int(rows[0]))) % 2**63)
            spread = below.std(tuple(range(below.ndim - 1)), keepdim=True)
            noise = torch.randn(below.shape, generator=random, device=below.device, dtype=below.dtype)
            below = below + self._options.input_noise * spread * noise
        with autocast(self._options, below.device):
            upper = self._pooled(self.model, below, rows)
        return self._hearing.features(rows, upper.float(), self._weights())

    def _loss(self, blocks: Sequence[NDArray[np.int64]], features_BP: Tensor) -> Tensor:
        """Sum over the blocks of what the predictions from these features cost."""
        rows = np.concatenate(list(blocks))
        return self._criterion.total(blocks, self._head(self._drift.removed(rows, features_BP)))

    def _anchor(self) -> None:
        """Add the gradient of anchor_l2 times the squared distance from the pretrained weights."""
        with torch.no_grad():
            for each, start in zip(self._unfrozen, self._start, strict=True):
                assert each.grad is not None
                each.grad += 2 * self._options.anchor_l2 * (each - start)

    def _halve(self) -> None:
        if self.micro_batch == 1:
            raise UserError(
                f"out of memory with one window of {self._options.history} TRs",
                "shorten history, unfreeze fewer layers, or use a device with more memory",
            )
        self.micro_batch = max(self.micro_batch // 2, 1)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            "out of memory: %d windows at once from here on, %d in a step as before",
            self.micro_batch,
            self._options.batch,
        )


def autocast(options: Configuration, device: torch.device) -> AbstractContextManager[object]:
    """Half precision where it was asked for, or where the device is made for it."""
    auto = options.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    if options.precision == "bfloat16" or auto:
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

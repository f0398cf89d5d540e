"""Stage 2: an encoder and its head in training, one epoch after the other."""

# B windows, F frames, D hidden or C convolution channels, P head features, V targets

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import TypeVar

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
from wav2bold.trainables.team import ALONE, Team
from wav2bold.trainables.torch_head import Criterion, TorchHead
from wav2bold.trainables.unfreezing import put, trained_parameters

log = logging.getLogger(__name__)

T = TypeVar("T")
OF_SPREAD = 16
"""Windows whose frames tell how much a feature varies: thousands of frames."""


class DivergedError(Exception):
    """The loss stopped being a number. args: the step, counted from 1, and the encoder's rate in it."""


class Stage2:
    """Trains an encoder, those of its parameters that require gradient, and a head, on the training windows.

    model: the encoder.  head: as it is now.  factors: as in `TorchHead`.
    team: who share its steps.
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
        team: Team = ALONE,
    ) -> None:
        self._criterion = criterion
        device = hearing.encoder.device
        self._head = TorchHead(head, device, factors, first_kernel(configuration, len(head.mean)))
        weights = hearing.first_weights
        self._logits_K = (
            None if weights is None else torch.zeros(len(weights), device=device, requires_grad=True)
        )
        logits = [] if self._logits_K is None else [self._logits_K]
        self._drift = FollowedDrift(drift, hearing.frozen_pooled, device)
        self._measured = int(np.isfinite(criterion.y).sum())
        self._pooled = torch.compile(hearing.pooled) if configuration.compile else hearing.pooled
        self._begin(model, hearing, configuration, seed, team, white=criterion.noise.is_white)
        self._move(self._head.parameters, logits, [*logits, *self._head.beside])

    def _begin(
        self,
        model: SpeechModel,
        hearing: AnyHearing,
        configuration: Configuration,
        seed: int,
        team: Team,
        *,
        white: bool,
    ) -> None:
        """What training has whatever it is for: a model, and windows in an order, so many in a step.

        white: whether volumes don't depend on each other, so that windows come one by one.
        """
        self._hearing, self._options, self._seed, self._team = hearing, configuration, seed, team
        self.model = model
        self._block = 1 if white else min(BLOCK, configuration.batch)
        blocks, rows = hearing.most_blocks(self._block)
        self._at_once = max(configuration.batch // rows, 1)
        self._all_steps = -(-blocks // self._at_once) * configuration.epochs
        self.micro_batch = configuration.micro_batch or configuration.batch
        self._steps = 0

    def _move(
        self, of_head: Sequence[Tensor], below_head: Sequence[Tensor], beside: Sequence[Tensor]
    ) -> None:
        """Let optimisers move the encoder, and these at the head's rate.

        below_head: those that act on each window by itself.  beside: those that `head` doesn't tell.
        """
        configuration = self._options
        named = [(name, each) for name, each in self.model.named_parameters() if each.requires_grad]
        self._unfrozen = [each for _, each in named]
        self._start = [each.detach().clone() for each in self._unfrozen] if configuration.anchor_l2 else []
        self._of_head, self._below_head, self._beside = [*of_head, *below_head], below_head, beside
        self._optimisers = optimisers_of(
            named,
            self._of_head,
            kind=configuration.optimiser,
            encoder_lr=configuration.encoder_lr,
            head_lr=configuration.head_lr,
            weight_decay=configuration.weight_decay,
        )
        self._schedules = self._schedules_from(0)

    @property
    def note(self) -> str:
        """What to know of the training beside its numbers; "" if nothing."""
        return ""

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
        while (loss := self._backward(step)) is None:
            self._halve()
        heard = [*self._unfrozen, *self._below_head]
        self._team.add_up([each.grad for each in heard if each.grad is not None])
        self._penalise()
        if self._start:
            self._anchor()
        torch.nn.utils.clip_grad_norm_([*self._unfrozen, *self._of_head], self._options.clip)
        for each in self._optimisers:
            each.step()
        for schedule in self._schedules:
            schedule.step()
        self._steps += 1
        return loss

    def _backward(self, step: Step) -> Tensor | None:
        """Gradients of a step's mean loss, and the loss; None if anybody's memory ran out.

        Those of the encoder are the share of this one's own windows, those of the head are whole.
        """
        for each in self._optimisers:
            each.zero_grad()
        rows = np.concatenate(step)
        shares = self._hearing.divided(rows, self._team.size)
        counts = [self._given(share) for share in shares]
        own = shares[self._team.rank]
        if not len(own):  # one that isn't counted: its gradients are 0, and there
            own = rows[:1]
        pieces = self._pieces(own)
        features_BP = within_memory(partial(self._forward, pieces))
        if self._team.any(features_BP is None):
            return None
        assert features_BP is not None
        every_BP = self._team.gathered(features_BP, counts).requires_grad_()
        first = sum(counts[: self._team.rank])
        mine = slice(first, first + counts[self._team.rank])
        loss = within_memory(partial(self._backward_from, step, pieces, features_BP, every_BP, mine))
        return None if self._team.any(loss is None) else loss

    def _forward(self, pieces: Sequence[NDArray[np.int64]]) -> Tensor:
        """(B, P) of windows; with what a gradient needs if they go through the encoder at once."""
        if len(pieces) == 1:
            return self._features(pieces[0])
        with torch.no_grad():
            return torch.cat([self._features(rows) for rows in pieces])

    def _backward_from(
        self,
        step: Step,
        pieces: Sequence[NDArray[np.int64]],
        features_BP: Tensor,
        every_BP: Tensor,
        mine: slice,
    ) -> Tensor:
        """The same from all windows' features on.

        pieces, features_BP: this one's own.  every_BP: everybody's, of which `mine` are this one's.
        Where its windows don't fit into memory together, each piece is heard anew.
        """
        loss = self._mean_loss(step, every_BP)
        loss.backward()
        assert every_BP.grad is not None
        grad = every_BP.grad[mine]
        if not len(grad):
            grad = torch.zeros_like(features_BP)
        if len(pieces) == 1:
            features_BP.backward(grad)
        else:
            for rows, part in zip(pieces, grad.split([self._given(rows) for rows in pieces]), strict=True):
                self._features(rows).backward(part)
        return loss.detach()

    def _pieces(self, rows: NDArray[np.int64]) -> Sequence[NDArray[np.int64]]:
        """These windows in pieces that go through the encoder at once; a stretch stays whole."""
        shares = self._hearing.divided(rows, -(-len(rows) // self.micro_batch))
        return [share for share in shares if len(share)]

    def _given(self, rows: NDArray[np.int64]) -> int:
        """How many rows `_features` gives of these windows."""
        return len(rows)

    def _features(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, P) of windows, before their drift is taken out."""
        return torch.cat([self._piece(part) for part in self._hearing.together(rows)])

    def _piece(self, rows: NDArray[np.int64]) -> Tensor:
        """The same for windows that go through the encoder in one pass."""
        below = self._hearing.below(rows)
        if self._options.input_noise:
            below = below + self._options.input_noise * self._spread * self._noise(rows, below)
        with autocast(self._options, below.device):
            upper = self._pooled(self.model, below, rows)
        return self._hearing.features(rows, upper.float(), self._weights())

    def _noise(self, rows: NDArray[np.int64], below: Tensor) -> Tensor:
        """Normal noise, of each row its own in each step, whatever goes through the encoder beside it."""
        random = torch.Generator(below.device)
        each = []
        for row in rows[: len(below)]:
            random.manual_seed(hash((self._seed, self._steps, int(row))) % 2**63)
            each.append(torch.randn(below.shape[1:], generator=random, device=below.device))
        return torch.stack(each)

    @cached_property
    def _spread(self) -> Tensor:
        """Standard deviation of each feature of what enters the trained part, or of the sound."""
        order = self._hearing.in_order()
        some = order[:: -(-len(order) // OF_SPREAD)]
        every = [self._hearing.below(rows) for rows in self._hearing.together(some)]
        width = every[0].shape[-1] if every[0].ndim > 2 else 1
        return torch.cat([one.reshape(-1, width) for one in every]).std(0)

    def _mean_loss(self, step: Step, features_BP: Tensor) -> Tensor:
        """What the predictions from the features of a step's windows cost."""
        predicted_BV = self._head(self._drift.removed(np.concatenate(step), features_BP))
        return self._criterion.total(step, predicted_BV) / max(self._criterion.count(step), 1)

    def _penalise(self) -> None:
        """Add the gradient of the head's penalty."""
        (self._head.penalty() / self._measured).backward()

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


def within_memory(call: Callable[[], T]) -> T | None:
    """What a call gives; None if memory ran out. Outside of the exception, which would hold on to it."""
    try:
        return call()
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

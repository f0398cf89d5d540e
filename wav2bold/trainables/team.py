"""Several processes that refine together, each with its share of every step's windows.

Each computes what its own windows give the head; all then see all of that, so that head, drift and loss are
the same everywhere, and only the encoder's gradients have to be added up. So steps of the same windows are
the same steps, by however many processes they are done.
"""

# B windows of a step, P head features

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from wav2bold.errors import UserError

T = TypeVar("T")
AT_ONCE = 2**24
"""Numbers that are added up together: 64 MB, beyond which a larger message is no faster."""


@dataclass(frozen=True)
class Team:
    """The processes that refine together, of which this is one; by default it is alone.

    rank: its number, from 0.  size: how many there are.
    stories: names of those that it is to hear before all begin, so that what is frozen is computed once by
    someone; drawn one by one.
    talk: their group for what is on the processor; None for a process alone.
    """

    rank: int = 0
    size: int = 1
    stories: Iterable[str] = ()
    talk: dist.ProcessGroup | None = None

    @classmethod
    def of_processes(cls, stories: Iterable[str]) -> "Team":
        """The team of all processes of torch's process group, which is there already."""
        talk = dist.new_group(backend="gloo")
        return cls(dist.get_rank(), dist.get_world_size(), stories, talk)

    @property
    def is_first(self) -> bool:
        """Whether this one speaks for all, and writes what is kept."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            dist.barrier(self.talk)

    def any(self, mine: bool) -> bool:
        """Whether it is so for any process."""
        if self.size == 1:
            return mine
        told = torch.tensor(int(mine))
        dist.all_reduce(told, dist.ReduceOp.MAX, self.talk)
        return bool(told)

    def first(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all. Its UserError is everybody's."""
        if self.size == 1:
            return make()
        box: list[T | UserError | None] = [None]
        if self.is_first:
            try:
                box = [make()]
            except UserError as error:
                box = [error]
        dist.broadcast_object_list(box, src=0, group=self.talk)
        (made,) = box
        if isinstance(made, UserError):
            raise made
        return made  # type: ignore[return-value]  # the first has put it there

    def gathered(self, own_BP: Tensor, counts: Sequence[int]) -> Tensor:
        """Every process's rows, in the order of their ranks, without gradient.

        counts: rows of each process; of this one's no more are taken.
        """
        if self.size == 1:
            return own_BP.detach()
        padded = own_BP.new_zeros((max(counts), *own_BP.shape[1:]))
        mine = counts[self.rank]
        padded[:mine] = own_BP.detach()[:mine]
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded, self._group(padded))
        return torch.cat([one[:count] for one, count in zip(found, counts, strict=True)])

    def add_up(self, parts: Sequence[Tensor]) -> None:
        """Put in place of each of these the sum of every process's."""
        if self.size == 1:
            return
        held: list[Tensor] = []
        for each in parts:
            if held and sum(one.numel() for one in held) + each.numel() > AT_ONCE:
                self._add_up(held)
                held = []
            held.append(each)
        if held:
            self._add_up(held)

    def _add_up(self, parts: Sequence[Tensor]) -> None:
        flat = torch.cat([each.flatten() for each in parts])
        dist.all_reduce(flat, dist.ReduceOp.SUM, self._group(flat))
        for each, sums in zip(parts, flat.split([one.numel() for one in parts]), strict=True):
            each.copy_(sums.view_as(each))

    def _group(self, tensor: Tensor) -> dist.ProcessGroup | None:
        """The group that carries a tensor: NCCL carries none of the processor's."""
        return self.talk if tensor.device.type == "cpu" else None


ALONE = Team()

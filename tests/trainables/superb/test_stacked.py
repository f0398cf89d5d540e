"""Heads of many learning rates trained together are the heads of the reference, each trained by itself."""

import numpy as np
import torch
from torch import nn

from wav2bold.trainables.superb.draws import Draws
from wav2bold.trainables.superb.pooled_heads import PROJECTED, answers, beginning, losses, right
from wav2bold.trainables.superb.stacked_adam import StackedAdam

RATES = (1e-1, 1e-3, 1e-5)
CPU = torch.device("cpu")


class Reference(nn.Module):
    """As s3prl has it: weighted sum, projection of every frame, mean over frames, classes."""

    def __init__(self, layers: int, features: int, classes: int) -> None:
        super().__init__()
        self.project, self.classify = nn.Linear(features, PROJECTED), nn.Linear(PROJECTED, classes)
        self.layers = nn.Parameter(torch.zeros(layers))

    def forward(self, states_BLFD: torch.Tensor) -> torch.Tensor:
        summed_BFD = (self.layers.softmax(0)[:, None, None] * states_BLFD).sum(1)
        return self.classify(self.project(summed_BFD).mean(1))


def reference(seed: int = 3) -> Reference:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Reference(4, 6, 5)


def test_pooling_before_the_head_gives_the_references_answers() -> None:
    states_BLFD = torch.randn(7, 4, 11, 6, generator=torch.Generator().manual_seed(0))
    parameters = beginning(4, 6, 5, len(RATES), 3, CPU)
    told = answers(parameters, states_BLFD.mean(2))
    for own in told:
        torch.testing.assert_close(own, reference()(states_BLFD), atol=1e-6, rtol=1e-5)


def test_each_rate_learns_as_torchs_adam_with_clipped_gradients_does() -> None:
    random = torch.Generator().manual_seed(1)
    parameters = beginning(4, 6, 5, len(RATES), 3, CPU)
    adam = StackedAdam(parameters, torch.tensor(RATES), 1.0)
    singles = [reference() for _ in RATES]
    optimisers = [
        torch.optim.Adam(one.parameters(), lr=rate) for one, rate in zip(singles, RATES, strict=True)
    ]
    clipped = False
    for _ in range(30):
        states, labels = (
            9 * torch.randn(8, 4, 3, 6, generator=random),
            torch.randint(5, (8,), generator=random),
        )
        losses(answers(parameters, states.mean(2)), labels[:, None], (5,)).sum().backward()
        adam.step()
        for one, optimiser in zip(singles, optimisers, strict=True):
            optimiser.zero_grad()
            nn.functional.cross_entropy(one(states), labels).backward()
            clipped |= bool(nn.utils.clip_grad_norm_(one.parameters(), 1.0) > 1)
            optimiser.step()
    assert clipped
    for number, one in enumerate(singles):
        torch.testing.assert_close(parameters["layers"][number], one.layers, atol=1e-4, rtol=1e-3)
        weight = parameters["project.weight"][number].T
        torch.testing.assert_close(weight, one.project.weight, atol=1e-4, rtol=1e-3)


def test_a_rate_whose_gradient_is_lost_stays_and_the_others_learn_on() -> None:
    parameters = {"weight": torch.ones(2, 3, requires_grad=True)}
    adam = StackedAdam(parameters, torch.tensor([0.1, 0.1]), 1.0)
    parameters["weight"].grad = torch.tensor([[float("nan"), 1, 1], [1, 1, 1]])
    adam.step()
    assert parameters["weight"][0].tolist() == [1, 1, 1]
    assert (parameters["weight"][1] < 1).all()


def test_losses_of_slots_add_up_and_all_slots_must_be_right() -> None:
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1], [1, 2], [0, 0], [1, 1], [0, -1], [-1, 2]])
    found = losses(logits, labels, (2, 3))
    for number in range(2):
        truth = sum(
            nn.functional.cross_entropy(own, labels[:, slot], ignore_index=-1, reduction="sum") / 6
            for slot, own in enumerate(logits[number].split([2, 3], dim=1))
        )
        torch.testing.assert_close(found[number], truth)
    told = right(logits, labels, (2, 3))
    for rate in range(2):
        for row in range(6):
            words = (int(logits[rate, row, :2].argmax()), int(logits[rate, row, 2:].argmax()))
            assert bool(told[rate, row]) == (words == tuple(labels[row].tolist()))


def test_every_row_is_drawn_once_an_epoch_and_any_step_is_known_without_those_before() -> None:
    rows = np.arange(100, 170)
    draws = Draws(rows, 32, seed=5)
    epochs = [np.concatenate([draws(3 * epoch + step) for step in range(3)]) for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(rows)] * 2
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(Draws(rows, 32, seed=5)(4), draws(4))
    assert not np.array_equal(Draws(rows, 32, seed=6)(4), draws(4))
    whole = Draws(rows, 32, seed=5, drops_last=True)
    assert [len(whole(step)) for step in range(4)] == [32] * 4


def test_balanced_classes_are_drawn_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [180, 18, 2])
    draws = Draws(np.arange(200), 50, seed=0, labels=labels)
    seen = np.bincount(labels[np.concatenate([draws(step) for step in range(400)])])
    # 20,000 draws: a third each, to four standard deviations
    np.testing.assert_allclose(seen / seen.sum(), 1 / 3, atol=0.0134)


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    assert sorted(Draws(np.arange(5), 32, seed=0, drops_last=True)(7)) == [0, 1, 2, 3, 4]

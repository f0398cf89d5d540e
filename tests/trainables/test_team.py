"""Several processes refine as one would: the same windows in a step give the same step."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from listeners import save_small_wav2vec2
from lives import life
from refining import configuration

from wav2bold.config import Configuration, Lora
from wav2bold.errors import UserError
from wav2bold.trainables.team import Team

STRONG = 100.0
"""Penalty: a random encoder's nearly constant features would make rounding large."""
PLAIN = configuration({"attention": (1, 2)}, encoder_lr=3e-3, head_l2=STRONG)
ALL_AT_ONCE = configuration(
    {"attention": (1, 1), "layer_norm": (1, 2)},
    lora=Lora(rank=2, targets=("feed_forward",)),
    encoder_lr=3e-3,
    optimiser="muon",
    noise="ar",
    input_noise=0.3,
    anchor_l2=0.01,
    layers="weighted",
    head="conv_linear",
    conv_kernel=2,
    head_l2=STRONG,
)
STRETCHED = configuration(
    {"attention": (1, 2)}, context="stretch", stretch_s=6.0, encoder_lr=3e-3, head_l2=STRONG
)
FROM_SOUND = configuration({"conv": None}, encoder_lr=3e-3, head_l2=STRONG)
KINDS = pytest.mark.parametrize(
    "options",
    [PLAIN, ALL_AT_ONCE, STRETCHED, FROM_SOUND],
    ids=["plain", "ar, muon, adapters", "stretches", "from the sound"],
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", do_normalize=False)


def folder_with(encoder: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "encoder").symlink_to(encoder)
    return folder


def assert_alike(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert other.keys() == one.keys()
    np.testing.assert_allclose(other["loss"], one["loss"], atol=1e-4)
    np.testing.assert_allclose(other["score"], one["score"], atol=1e-4)
    for name in one.keys() - {"computed", "seconds", "best", "note"}:
        np.testing.assert_allclose(other[name], one[name], atol=1e-4, err_msg=name)


@KINDS
def test_two_and_four_processes_end_where_one_does(
    saved: Path, tmp_path: Path, options: Configuration
) -> None:
    alone = life(folder_with(saved, tmp_path / "1"), options)
    assert alone is not None
    assert np.ptp(alone["loss"][1:]) > 1e-3, "something is learned"
    for size in (2, 4):
        together = life(folder_with(saved, tmp_path / str(size)), options, size=size)
        assert together is not None
        assert_alike(alone, together)


def test_a_team_goes_on_where_another_was_killed(saved: Path, tmp_path: Path) -> None:
    options = PLAIN.model_copy(update={"epochs": 3})
    calm = life(folder_with(saved, tmp_path / "calm"), options)
    folder = folder_with(saved, tmp_path / "killed")
    life(folder, options, ("told", 2))
    together = life(folder, options, size=2)
    assert calm is not None
    assert together is not None
    assert together["computed"].tolist() == [0, 2], "the first epoch was kept"
    assert_alike(calm, together)


def test_where_one_lacks_memory_all_take_fewer_windows_at_once(saved: Path, tmp_path: Path) -> None:
    alone = life(folder_with(saved, tmp_path / "1"), PLAIN)
    scarce = life(folder_with(saved, tmp_path / "2"), PLAIN, size=2, scarce=3)
    assert alone is not None
    assert scarce is not None
    assert_alike(alone, scarce)


def say(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    team = Team.of_processes([])
    counts = [2, 0, 3]
    own = torch.full((max(counts[rank], 1), 2), float(rank))  # one without any brings one that isn't counted
    parts = [torch.full((3,), float(rank)), torch.full((2, 2), 10.0 * rank)]
    team.add_up(parts)

    def refuse() -> int:
        raise UserError("no head", "take another")

    try:
        team.first(refuse)
        raised = ""
    except UserError as error:
        raised = str(error)
    told = {
        "gathered": team.gathered(own, counts).numpy(),
        "sums": np.concatenate([part.flatten().numpy() for part in parts]),
        "any": [team.any(rank == 2), team.any(False)],
        "first": team.first(lambda: rank + 7),
        "raised": raised,
    }
    np.savez(folder / f"told{rank}.npz", **told)


def test_every_process_hears_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=say, args=(tmp_path, rank)) for rank in range(3)]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    for rank in range(3):
        told = np.load(tmp_path / f"told{rank}.npz")
        assert told["gathered"].tolist() == [[0, 0], [0, 0], [2, 2], [2, 2], [2, 2]]
        assert told["sums"].tolist() == [3] * 3 + [30] * 4
        assert told["any"].tolist() == [True, False]
        assert told["first"] == 7
        assert str(told["raised"]) == "no head; take another"


def test_one_alone_says_it_to_itself() -> None:
    team = Team()
    rows = torch.ones(2, 3, requires_grad=True)
    assert not team.gathered(rows, [2]).requires_grad
    assert team.first(lambda: 3) == 3
    assert team.any(True)

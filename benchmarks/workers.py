"""What a step of stage 2 gains by processes that share it, each with one core.

workers_2_speedup_*: a step by one process over a step by two, of wav2vec2-base's shape and 8 windows of 9 s;
top2: attention and feed-forward of the upper two layers unfrozen, all_layers: of all. Both take turns on the
same machine; at most 2 is to be had where it has two cores.
"""

import multiprocessing
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from _figures import show
from _steps import HISTORY, KINDS, Size, made, our_step, timed

from wav2bold.config import Configuration
from wav2bold.trainables.team import ALONE, Team

BASE, REPEATS, WORKERS = Size(12, 768, 512, 8, 1, 48.0, 1000), 5, 2
LAYERS = {"top2": (10, 11), "all_layers": (0, 11)}


def main() -> None:
    context = multiprocessing.get_context("spawn")
    for name, layers in LAYERS.items():
        with tempfile.TemporaryDirectory() as folder:
            processes = [
                context.Process(target=work, args=(Path(folder), name, layers, rank))
                for rank in range(WORKERS)
            ]
            for one in processes:
                one.start()
            for one in processes:
                one.join()
            if any(one.exitcode for one in processes):
                sys.exit("a worker failed")


def work(folder: Path, name: str, layers: tuple[int, int], rank: int) -> None:
    """What each process does; the first also takes every step by itself, while the other waits."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)
    team, cpu = Team.of_processes(()), torch.device("cpu")
    encoder, shards = made(BASE, cpu)
    options = Configuration(
        history=HISTORY, unfrozen=dict.fromkeys(KINDS, layers), batch=BASE.batch, epochs=1000
    )
    together, alone = (our_step(folder, encoder, shards, options, each)[0] for each in (team, ALONE))
    together()
    speedups = []
    for _ in range(REPEATS):
        team.wait()
        two = timed(together, cpu)
        team.wait()
        if team.is_first:
            one = timed(alone, cpu)
            print(f"  {name}: one {one:.2f} s, two {two:.2f} s", file=sys.stderr)
            speedups.append(one / two)
    if team.is_first:
        show(f"workers_{WORKERS}_speedup_{name}", speedups, "x")


if __name__ == "__main__":
    main()

"""A step of stage 2 on one GPU: how fast, how well it uses the card, and beside the plain loop.

Needs torch, transformers, numpy, pyarrow and what `wav2bold.trainables` imports. On a machine without a GPU
it runs on the processor at a small size, and says so: those figures show that it runs, nothing else.

gpu_windows_per_s_*: windows of 9 s per second of whole steps, optimiser and all, from the second epoch on.
gpu_utilisation_*: floating-point operations of the model in a step (forward and backward, as torch counts
them) over what the card's bf16 matrix product of 8192 x 8192 x 8192 does in the same time.
gpu_peak_gb_*: the most memory that a step holds; gpu_peak_ratio_*: over that of the plain loop.
gpu_speedup_*: against the loop that published code runs: every window through the whole encoder at every
step, in bf16 with the same attention and the fused AdamW, audio on the card already.
all: attention and feed-forward of all layers unfrozen; top2: of the upper two.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _figures import show
from _steps import HISTORY, KINDS, Size, made, our_step, plain_step, timed

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.trainables.encoder import Encoder

REPEATS = 5
STEPS = 10
BASE = Size(12, 768, 512, 128, 2, 600.0, 2000)
SMALL = Size(4, 64, 32, 8, 1, 60.0, 50)


def main() -> None:
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    size = BASE if gpu else SMALL
    say(torch.cuda.get_device_name() if gpu else "no GPU: on the processor, at a small size")
    rate = matrix_rate(device)
    encoder, shards = made(size, device)
    compiled = "--compile" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        for variant, layers in (("all", (0, size.layers - 1)), ("top2", (size.layers - 2, size.layers - 1))):
            options = Configuration(
                history=HISTORY,
                unfrozen=dict.fromkeys(KINDS, layers),
                batch=size.batch,
                epochs=1000,
                compile=compiled,
            )
            measure(variant, Path(name), encoder, shards, options, rate)


def measure(
    variant: str, folder: Path, encoder: Encoder, shards: Shards, options: Configuration, rate: float
) -> None:
    """All figures of one choice of what is unfrozen."""
    device = encoder.device
    held = held_bytes(device)
    ours, operations = our_step(folder, encoder, shards, options)
    peak = peak_bytes(ours, device) - held
    held = held_bytes(device)
    plain = plain_step(encoder, shards, options)
    plains_peak = peak_bytes(plain, device) - held
    steps = STEPS if device.type == "cuda" else 1
    seconds = [(timed(ours, device, steps), timed(plain, device, steps)) for _ in range(REPEATS)]
    name = f"gpu_{{}}_{variant}" if device.type == "cuda" else f"cpu_small_{{}}_{variant}"
    show(name.format("windows_per_s"), [options.batch / mine for mine, _ in seconds], "1/s")
    show(name.format("utilisation"), [operations / mine / rate for mine, _ in seconds], "share")
    show(name.format("speedup"), [peers / mine for mine, peers in seconds], "x")
    if device.type == "cuda":
        show(name.format("peak_gb"), [peak / 1e9], "GB")
        show(name.format("peak_ratio"), [peak / plains_peak], "x")


def held_bytes(device: torch.device) -> int:
    """Memory of the GPU that is in use."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """The most memory of the GPU in a step that is not the first."""
    for _ in range(2):
        step()
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of a large bf16 matrix product."""
    side = 8192 if device.type == "cuda" else 512
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = min(timed(lambda: torch.mm(one, other), device, STEPS) for _ in range(5))
    rate = 2 * side**3 / seconds
    say(f"bf16 matrix product: {rate / 1e12:.3g} TFLOP/s")
    return rate


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

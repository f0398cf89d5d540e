"""What a trial's own process takes of its machine, by names that MLflow's page shows as system metrics."""

import importlib.util
import time

import psutil
import torch


class Footprint:
    """Processor, memory and GPU of this process, from one question to the next.

    Asked once an epoch, which takes 25 microseconds: MLflow's own sampling takes a thread per trial, and
    tells of the whole machine, which several trials share.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._asked = self._now()

    def figures(self) -> dict[str, float]:
        """Percent of one core since the last question, resident memory (MB), and those of a GPU in use."""
        now = self._now()
        seconds, busy = (later - before for later, before in zip(now, self._asked, strict=True))
        self._asked = now
        figures = {
            "system/trial_cpu_percent": 100 * busy / seconds if seconds > 0 else 0.0,
            "system/trial_memory_mb": self._process.memory_info().rss / 1e6,
        }
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            figures["system/trial_gpu_memory_mb"] = torch.cuda.max_memory_reserved() / 1e6
            if importlib.util.find_spec("pynvml") is not None:
                figures["system/gpu_percent"] = float(torch.cuda.utilization())
        return figures

    def _now(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return time.monotonic(), times.user + times.system

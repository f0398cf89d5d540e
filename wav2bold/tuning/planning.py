"""`wav2bold cluster plan`: which cluster is meant, and the plan of a study for it."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from wav2bold.cluster.connect import connected
from wav2bold.cluster.shape import connected_shape, shape_in, this_machine
from wav2bold.config import Study
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import ClusterError
from wav2bold.tuning.calibration import calibrated
from wav2bold.tuning.plan import Plan, largest_together, plan
from wav2bold.tuning.sweep import swept_subjects


def plan_of(
    study: Path,
    config: Path | None = None,
    address: str | None = None,
    cpus: int | None = None,
    *,
    calibrate: bool = False,
) -> Plan:
    """The plan of a study for a cluster: in a launcher file, at an address or RAY_ADDRESS, or this machine.

    calibrate: also time a short trial, by a worker of a running cluster, or else here.
    Raises StudyError for what can never be placed, ClusterError if both a file and an address are given.
    """
    if config is not None and address is not None:
        raise ClusterError("--config and --address are two clusters", "give one of them")
    loaded = Study.load(study)
    card = open_shards(loaded.shards).card
    subjects = swept_subjects(loaded, card)
    together = largest_together(loaded, subjects, card)
    timing = partial(calibrated, loaded, together, len(subjects) if len(together) < len(subjects) else 1)
    address = address or os.environ.get("RAY_ADDRESS")
    if config is not None or address in (None, "local"):
        shape = this_machine(cpus) if config is None else shape_in(config)
        found = plan(loaded, subjects, shape)
        return replace(found, pace=timing(on_cluster=False)) if calibrate else found
    with connected(address, cpus):
        found = plan(loaded, subjects, connected_shape())
        return replace(found, pace=timing(on_cluster=True)) if calibrate else found

"""`wav2bold cluster plan`: which cluster is meant, and the plan of a study for it."""

import os
from pathlib import Path

from wav2bold.cluster.connect import connected
from wav2bold.cluster.shape import Shape, connected_shape, shape_in, this_machine
from wav2bold.config import Study
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import ClusterError
from wav2bold.tuning.plan import Plan, plan
from wav2bold.tuning.sweep import swept_subjects


def plan_of(
    study: Path, config: Path | None = None, address: str | None = None, cpus: int | None = None
) -> Plan:
    """The plan of a study for a cluster: in a launcher file, at an address or RAY_ADDRESS, or this machine.

    Raises StudyError for what can never be placed, ClusterError if both a file and an address are given.
    """
    if config is not None and address is not None:
        raise ClusterError("--config and --address are two clusters", "give one of them")
    loaded = Study.load(study)
    subjects = swept_subjects(loaded, open_shards(loaded.shards).card)
    return plan(loaded, subjects, _shape(config, address or os.environ.get("RAY_ADDRESS"), cpus))


def _shape(config: Path | None, address: str | None, cpus: int | None) -> Shape:
    if config is not None:
        return shape_in(config)
    if address is None or address == "local":
        return this_machine(cpus)
    with connected(address, cpus):
        return connected_shape()

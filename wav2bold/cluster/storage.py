"""Proof that all nodes of a cluster see the same folders, before any work begins on them."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wav2bold.errors import ClusterError, DataError
from wav2bold.places import Place, read_whole, refusal

ANSWERS_S = 60.0
"""How long all nodes together may take to look: most of it is the start of a worker on each."""
CURE = "mount the same disk there under the same path"


def check_storage(written: Sequence[Path], read: Sequence[Place] = ()) -> None:
    """Raise ClusterError, naming node and path, unless every node sees these places as we do.

    written: folders that every node writes into: each gets a marker file, which every node must find and be
    allowed to write beside.  read: files, or URLs of files, that every node must read as we do.
    Does nothing on a single node. A node that joins later is not asked.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    with _markers(written) as markers:
        wanted = {str(path): digest_of(path) for path in (*markers, *read)}
        asked = {
            node["NodeID"]: _look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(markers, tuple(read))
            for node in nodes
        }
        for node in nodes:
            name = f"{node['NodeManagerHostname']} ({node['NodeName']})"
            try:
                seen: dict[str, str] = ray.get(asked[node["NodeID"]], timeout=ANSWERS_S)
            except GetTimeoutError:
                raise ClusterError(
                    f"node {name} does not answer for {ANSWERS_S:g} s", "look at `ray status`, or remove it"
                ) from None
            except RayError as error:
                last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise ClusterError(
                    f"node {name} can't look at the study's folders ({last[0].strip()})",
                    "install the same wav2bold there",
                ) from error
            for path, digest in wanted.items():
                _refuse_unlike(name, path, seen[path], digest)


def _refuse_unlike(node: str, path: str, seen: str, wanted: str) -> None:
    where = Path(path).parent if ".wav2bold-" in Path(path).name else path
    if seen == "absent":
        raise ClusterError(f"node {node} does not see {where} as this machine does", CURE)
    if seen.startswith("refused"):
        raise ClusterError(f"node {node} can't use {where} ({seen.removeprefix('refused: ')})", CURE)
    if seen != wanted:
        raise ClusterError(f"node {node} sees something else at {where} than this machine does", CURE)


@contextmanager
def _markers(folders: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """A file of chance in each folder, gone again at the end."""
    made: list[Path] = []
    try:
        for folder in folders:
            marker = folder.resolve() / f".wav2bold-{secrets.token_hex(8)}"
            try:
                marker.parent.mkdir(parents=True, exist_ok=True)
                marker.write_text(secrets.token_hex(16))
            except OSError as error:
                raise refusal(folder, error) from None
            made.append(marker)
        yield tuple(made)
    finally:
        for marker in made:
            with suppress(OSError):
                marker.unlink(missing_ok=True)


@ray.remote(num_cpus=0, max_retries=0)
def _look(markers: tuple[Path, ...], read: tuple[Any, ...]) -> dict[str, str]:
    return look(markers, read)


def look(markers: Sequence[Path], read: Sequence[Place]) -> dict[str, str]:
    """What this node finds of each file: the digest of its content, `absent`, or `refused: ` and why."""
    seen = {str(path): digest_of(path) for path in (*markers, *read)}
    for marker in markers:
        if seen[str(marker)] != "absent" and not os.access(marker.parent, os.W_OK):
            seen[str(marker)] = "refused: may not be written"
    return seen


def digest_of(path: Place) -> str:
    """The digest of a file's content, `absent`, or `refused: ` and why."""
    try:
        return blake2b(read_whole(path), digest_size=16).hexdigest()
    except FileNotFoundError:
        return "absent"
    except (OSError, DataError) as error:
        return f"refused: {' '.join(str(error).split())}"

"""On several nodes: what no node can hold is refused, and folders that a node doesn't see are named."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wav2bold.cluster import storage
from wav2bold.cluster.storage import check_storage, look
from wav2bold.errors import ClusterError, StorageError

pytestmark = pytest.mark.alone
NODES = """
    import os, subprocess, sys, time
    from pathlib import Path
    import ray
    from ray.cluster_utils import Cluster
    from wav2bold.cluster.connect import QUIET, connected
    from wav2bold.cluster.fit import refuse_impossible
    from wav2bold.cluster.shape import connected_shape
    from wav2bold.cluster.storage import check_storage
    from wav2bold.config import Search
    from wav2bold.errors import UserError

    os.environ.update(QUIET)
    folder = Path(sys.argv[1])
    results, card = folder / "results", folder / "shards" / "dataset.json"
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False},
    )

    def said(step):
        begun = time.monotonic()
        try:
            step()
            print("nothing", round(time.monotonic() - begun, 1), sep="|")
        except UserError as error:
            print(error, round(time.monotonic() - begun, 1), sep="|")

    def look():
        check_storage([results], [card])

    other = None
    try:
        with connected(cluster.address):
            said(look)
            print(results.exists())
            cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
            cluster.wait_for_nodes()
            said(look)
            print([path.name for path in results.iterdir()])
            said(lambda: refuse_impossible(connected_shape(), Search(cpus_per_trial=2)))
            said(lambda: refuse_impossible(connected_shape(), Search(workers=2)))
            start = f"exec {Path(sys.executable).with_name('ray')} start --address={cluster.address} --block"
            start += " --num-cpus=1 --object-store-memory=80000000 --node-name=elsewhere"
            hide = f"mount -t tmpfs none {results} && {start}"
            words = ["unshare", "-m", "sh", "-c", hide]
            other = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while sum(node["Alive"] for node in ray.nodes()) < 3:
                assert other.poll() is None
                time.sleep(0.2)
            said(look)
    finally:
        if other is not None:
            other.terminate()
            other.wait(30)
        cluster.shutdown()
"""


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="a node with disks of its own needs a mount namespace, which only root may make",
)
def test_a_node_that_does_not_see_a_folder_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "dataset.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NODES), str(tmp_path)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stderr
    alone, made, seen, left, too_large, two_workers, named = lines
    assert alone.startswith("nothing|")
    assert made == "False", "one node is asked nothing"
    assert seen.startswith("nothing|")
    assert left == "[]"
    what, seconds = too_large.split("|")
    assert what.startswith("search.cpus_per_trial: 2 is more than that of any machine of the cluster, 1")
    assert float(seconds) < 5
    assert two_workers.startswith("nothing|"), "two workers do go on two nodes"
    what = named.split("|")[0]
    assert "(elsewhere) does not see" in what
    assert str(tmp_path / "results") in what
    assert what.endswith("; mount the same disk there under the same path")


TWO = [
    {
        "Alive": True,
        "NodeID": f"{number:056x}",
        "NodeManagerHostname": "host",
        "NodeName": f"192.0.2.{number}",
    }
    for number in (1, 2)
]


class Reader:
    """In the place of Ray's task: the second node finds what `second` makes of what is there."""

    def __init__(self, second: object) -> None:
        self.second = second

    def options(self, scheduling_strategy: object) -> "Reader":
        self.node = scheduling_strategy.node_id
        return self

    def remote(self, markers: tuple[Path, ...], read: tuple[Path, ...]) -> dict[str, str]:
        seen = look(markers, read)
        return seen if int(self.node, 16) == 1 else {path: self.second(one) for path, one in seen.items()}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (
            lambda seen: "0" * 32,
            r"node host \(192.0.2.2\) sees something else at .*results than this machine",
        ),
        (lambda seen: "refused: may not be written", r"can't use .*results \(may not be written\); mount"),
        (
            lambda seen: "absent",
            r"node host \(192.0.2.2\) does not see .*results as this machine does; mount",
        ),
    ],
)
def test_every_way_of_not_seeing_a_folder_is_told(
    second: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.ray, "nodes", lambda: TWO)
    monkeypatch.setattr(storage.ray, "get", lambda found, timeout: found)
    monkeypatch.setattr(storage, "_look", Reader(lambda seen: seen))
    (tmp_path / "dataset.json").write_text("{}")
    check_storage([tmp_path / "results"], [tmp_path / "dataset.json"])
    monkeypatch.setattr(storage, "_look", Reader(second))
    with pytest.raises(ClusterError, match=said):
        check_storage([tmp_path / "results"])
    assert not list((tmp_path / "results").iterdir())
    with pytest.raises(ClusterError, match=said.replace("results", "dataset.json")):
        check_storage([], [tmp_path / "dataset.json"])


def test_a_folder_that_can_not_be_made_is_no_nodes_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.ray, "nodes", lambda: TWO)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        check_storage([tmp_path / "file" / "results"])


def test_a_node_looks_at_what_is_there(tmp_path: Path) -> None:
    marker = tmp_path / ".wav2bold-0"
    assert look([marker], []) == {str(marker): "absent"}
    marker.write_text("chance")
    first = look([marker], [])
    marker.write_text("another")
    assert look([marker], [])[str(marker)] != first[str(marker)]
    assert look([], [tmp_path])[str(tmp_path)].startswith("refused: ")

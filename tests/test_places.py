"""A place is a folder or a URL; whatever is wrong with a store is said in one line, within seconds."""

import io
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from commands import executable
from recordings import add_story, add_volumes, noise
from stores import new_bucket, without_aws

from wav2bold.config import Split, Study
from wav2bold.errors import DataError, StudyError
from wav2bold.places import Place, check_reachable, masked, place, put_whole, read_part, read_whole, within


def test_paths_stay_paths_and_a_file_url_is_one(tmp_path: Path) -> None:
    assert place("shards") == Path("shards")
    assert place(tmp_path) == tmp_path
    assert place(f"file://{tmp_path}") == tmp_path


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("s3://me:secret@bucket/x", "s3://me:***@bucket/x: holds a password or a query; leave it out: keys"),
        ("https://host/x?sig=secret", "https://host/x: holds a password or a query; leave it out: keys"),
        (
            "s4://bucket/x",
            "s4://bucket/x: no storage that fsspec knows (Unsupported filesystem: 's4'); write",
        ),
        ("s3:/bucket/x", "s3:/bucket/x: is neither a path nor a URL; write s3://bucket/x"),
        (Path("s3://bucket/x"), "s3:/bucket/x: is neither a path nor a URL; write s3://bucket/x"),
    ],
)
def test_what_is_no_place_is_told(given: str | Path, says: str) -> None:
    with pytest.raises(DataError) as raised:
        place(given)
    assert str(raised.value).startswith(says)
    assert "secret" not in str(raised.value)


def test_a_study_keeps_a_url_as_it_is(tmp_path: Path) -> None:
    split = Split(validation=("a",), test=("b",))
    study = Study(name="x", shards=place("s3://bucket/x y"), encoder="x", split=split)
    study.save(tmp_path / "study.yaml")
    again = Study.load(tmp_path / "study.yaml")
    assert again.shards == study.shards == place("s3://bucket/x y")
    assert Study.model_validate(again.model_dump(mode="json")).shards == again.shards
    text = (tmp_path / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text.replace("s3://bucket", "s3://me:secret@bucket"))
    with pytest.raises(StudyError) as raised:
        Study.load(tmp_path / "study.yaml")
    assert "study.yaml: shards: s3://me:***@bucket/x y: holds a password" in str(raised.value)


def test_an_address_is_shown_without_its_password() -> None:
    assert masked("can't reach https://me:secret@host:80/x") == "can't reach https://me:***@host:80/x"
    assert masked("http://127.0.0.1:80/x") == "http://127.0.0.1:80/x"


@pytest.mark.filterwarnings("ignore:UPath 'disk' filesystem not explicitly implemented:UserWarning")
def test_a_store_with_folders_gets_them_and_no_file_is_seen_half(tmp_path: Path) -> None:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    class Disk(LocalFileSystem):
        """A storage with real folders that we don't know: this disk under another name."""

        protocol = "disk"

        def mv(self, path1: str, path2: str, **options: object) -> None:
            half.append(Path(path2).exists())
            super().mv(path1, path2, **options)

    half: list[bool] = []
    fsspec.register_implementation("disk", Disk, clobber=True)
    file = place(f"disk://{tmp_path}/a/b/c.txt")
    put_whole(file, b"whole")
    assert read_whole(file) == b"whole"
    assert half == [False]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]
    assert within(file, place(f"disk://{tmp_path}")) == "a/b/c.txt"
    (tmp_path / "full").write_text("")
    with pytest.raises(DataError, match=r"full/x\.txt: can't be written"):
        put_whole(place(f"disk://{tmp_path}/full/x.txt"), b"")


def test_a_file_whose_writing_fails_is_not_there(object_store: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(place("s3://absent/x"))
    with pytest.raises(FileNotFoundError):
        read_part(place("s3://absent/x"), lambda file: file.read(1))


Replaced = Callable[[Place, Iterable[bytes]], None]


@pytest.fixture
def replaced(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Replaced:
    """Lets another writer put the next content of a file before each request that we make for it."""
    s3fs = pytest.importorskip("s3fs")
    ask, client = s3fs.S3FileSystem._call_s3, boto3.client("s3")
    written: dict[str, Iterable[bytes]] = {}

    async def after_another(self: object, method: str, *args: object, **options: object) -> object:
        key = f"{options.get('Bucket')}/{options.get('Key')}"
        for content in itertools.islice(written.get(key, ()), 1):
            client.put_object(Bucket=options["Bucket"], Key=options["Key"], Body=content)
        return await ask(self, method, *args, **options)

    def replace(file: Place, contents: Iterable[bytes]) -> None:
        assert not isinstance(file, Path)
        written[file.path] = iter(contents)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", after_another)
    return replace


def test_a_file_replaced_while_it_is_read_is_the_old_or_the_new_one(
    replaced: Replaced, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_bucket("replaced") / "marker"
    assert not isinstance(file, Path)
    old, new = b"a" * 90, b"b" * 60
    # of more than this, s3fs would fetch pieces side by side
    monkeypatch.setattr(file.fs, "default_block_size", 16)
    for before in range(6):  # requests, until the first that finds the new one
        put_whole(file, old)
        replaced(file, [*[old] * before, new])
        assert read_whole(file) in (old, new)


def parquet(said: str, rows: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": range(rows)}).replace_schema_metadata({"said": said}), buffer)
    return buffer.getvalue()


def test_metadata_of_a_file_replaced_while_it_is_read_are_of_the_old_or_the_new_one(
    replaced: Replaced,
) -> None:
    file = new_bucket("replaced-parts") / "run.parquet"
    old, new = parquet("old", 10), parquet("new", 40_000)
    for before in range(4):  # requests, until the first that finds the new one
        put_whole(file, old)
        replaced(file, [*[old] * before, new])
        found = read_part(file, pq.read_metadata)
        assert (found.num_rows, found.metadata[b"said"]) in [(10, b"old"), (40_000, b"new")]


def test_a_file_that_is_replaced_for_ever_is_told(replaced: Replaced) -> None:
    file = new_bucket("replaced-always") / "run.parquet"
    contents = [parquet("old", 10), parquet("new", 40_000)]
    put_whole(file, contents[0])
    replaced(file, itertools.cycle(contents))
    with pytest.raises(DataError) as raised:
        read_part(file, pq.read_metadata)
    assert str(raised.value) == (
        f"{file}: is replaced again and again while it is read; wait for who writes there to end"
    )


def prepared(tmp_path: Path, env: Mapping[str, str], out: str = "s3://study/shards") -> tuple[str, float]:
    """The one line in which `wav2bold prepare` ends, and the seconds that it took."""
    add_story(tmp_path / "recordings", "story1")
    add_volumes(tmp_path / "recordings", noise(2, 2, 1, 14))
    begun = time.monotonic()
    done = subprocess.run(
        [executable(), "prepare", "recordings", "--out", out],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    took_s = time.monotonic() - begun
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"wav2bold: {out}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]
    return line.removeprefix(f"wav2bold: {out}: "), took_s


def test_a_bucket_that_is_not_there_is_told(tmp_path: Path, object_store: str) -> None:
    said, _ = prepared(tmp_path, dict(os.environ), "s3://nowhere/shards")
    assert said == "there is no such bucket; make it, or mend the name"


def test_keys_that_are_absent_are_told(tmp_path: Path, object_store: str) -> None:
    env = without_aws() | {"AWS_ENDPOINT_URL": object_store, "AWS_EC2_METADATA_DISABLED": "true"}
    env |= {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    said, _ = prepared(tmp_path, env)
    assert said.startswith("can't be reached (Unable to locate credentials); check the network, your keys")


def test_keys_that_are_wrong_are_told(tmp_path: Path, object_store: str) -> None:
    before = requests.post(f"{object_store}/moto-api/reset-auth", data=b"0", timeout=10)
    assert before.ok
    try:
        said, _ = prepared(tmp_path, dict(os.environ))
    finally:
        requests.post(f"{object_store}/moto-api/reset-auth", data=b"inf", timeout=10)
    assert said.startswith(
        "may not be reached (The AWS Access Key Id you provided does not exist in our records)"
    )
    assert "AWS_ACCESS_KEY_ID" in said


def test_a_server_that_is_off_is_told_within_seconds(tmp_path: Path, object_store: str) -> None:
    env = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    said, _ = prepared(tmp_path, env)
    assert said.startswith("can't be reached (Could not connect to the endpoint URL")
    assert "AWS_ENDPOINT_URL" in said


def test_a_server_that_never_answers_is_given_up(object_store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        code = (
            "from wav2bold import places\n"
            "places.ANSWERS_S = 1.0\n"
            "try: places.check_reachable(places.place('s3://study/x'))\n"
            "except places.DataError as error: print(error)\n"
        )
        env = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{mute.getsockname()[1]}"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.startswith("s3://study/x: does not answer for 1 s; check the network, your keys")


def test_a_missing_extra_is_told() -> None:
    code = (
        "import sys\nsys.modules['s3fs'] = None\n"  # as if it were not installed
        "from wav2bold import places\n"
        "try: places.check_reachable(places.place('s3://study/x'))\n"
        "except places.DataError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    says = "s3://study/x: needs a further package (Install s3fs to access S3); install it: pip install"
    assert done.stdout.strip() == f"{says} 'wav2bold[s3]'"


def test_a_folder_is_always_reachable(tmp_path: Path) -> None:
    check_reachable(tmp_path / "absent")

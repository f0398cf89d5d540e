"""Places that shards can be in: a folder, or a URL of any storage that fsspec knows, such as `s3://`.

A folder is a `pathlib.Path`; a URL is a `upath.UPath`, which has the same methods. Nothing of fsspec is
loaded before a URL is met. Whatever a store may raise comes out of the functions here as FileNotFoundError,
or as a DataError of one line; what a disk says while it is written to, out of `written`.
"""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from wav2bold.errors import DataError, StorageError

if TYPE_CHECKING:
    from upath import UPath

    Place: TypeAlias = Path | UPath
    AnyPlace: TypeAlias = str | os.PathLike[str] | UPath
else:
    Place = AnyPlace = Path

Read = TypeVar("Read")

ANSWERS_S = 20.0
"""How long a store may take to list a folder before we call it away. S3's own client tries for 10 s."""
URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*(::|://)")
NOT_OURS = {
    errno.EACCES: "let yourself read and write there, or choose another {place}",
    errno.EPERM: "let yourself read and write there, or choose another {place}",
    errno.EROFS: "choose another {place}, that can be written to",
    errno.ENOSPC: "free some space or choose another {place}, then run the same command again",
    errno.EDQUOT: "free some space or choose another {place}, then run the same command again",
}
"""What cures an error that no program can mend, by its number."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Those that only writing meets."""
ONE_STEP = {"abfs", "abfss", "az", "gcs", "gs", "memory", "s3", "s3a"}
"""Stores in which an object appears whole or not at all; in others a file is moved into its place."""
S3 = {"s3", "s3a"}
TRIES = 5
"""How often a part of a file is read that others replace meanwhile."""


def place(given: AnyPlace) -> Place:
    """The folder or URL that was given.

    Raises DataError for a URL that holds a password or a query, or of a storage that fsspec doesn't know.
    """
    text = given if isinstance(given, str) else str(given)
    if not URL.match(text):
        path = Path(text)
        if path.parts and re.fullmatch(r"[a-z][a-z0-9+]+:", path.parts[0]):
            rest = "/".join(path.parts[1:])
            raise DataError(f"{text}: is neither a path nor a URL", f"write {path.parts[0]}//{rest}")
        return path
    shown = masked(text)
    if shown != text or "?" in text:
        raise DataError(
            f"{shown.partition('?')[0]}: holds a password or a query",
            "leave it out: keys come from the environment (docs/shards.md)",
        )
    if text.startswith(("file://", "local://")):
        return Path(text.partition("://")[2])
    from upath import UPath

    try:
        # Listings are never remembered: other processes write there too
        return UPath(text, use_listings_cache=False)
    except ValueError as error:
        raise DataError(
            f"{text}: no storage that fsspec knows ({_reason(error)})", "write s3://BUCKET/FOLDER or a path"
        ) from None


def absolute(given: Place, folder: Path) -> Place:
    """The same place, a relative path taken from `folder`."""
    return folder / given.expanduser() if isinstance(given, Path) else given


def beside(given: Place, name: str) -> Path:
    """The file of this name beside a folder; for a URL, in the working folder."""
    return (given.resolve().parent if isinstance(given, Path) else Path.cwd()) / name


def within(file: Place, folder: Place) -> str:
    """How the name of a file goes on from that of a folder above it."""
    return str(file).removeprefix(str(folder)).lstrip("/")


def masked(text: str) -> str:
    """The text without passwords in its addresses, wherever in them they stand."""
    text = re.sub(r"(://[^:/@\s]*:)[^/\s]+@", r"\1***@", text)
    return re.sub(r"([?&][a-z_]*(?:pass|pwd)[a-z_]*=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def check_reachable(folder: Place) -> None:
    """Raise DataError unless the store of a URL lets us list it; within ANSWERS_S, whatever it does.

    That there is nothing at the URL yet is no error, unless its bucket is missing.
    """
    if isinstance(folder, Path):
        return
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            with _plain_errors(folder, "reached"):
                _list(folder)
        except Exception as error:  # noqa: BLE001  # raised again below, in the thread that waits
            raised.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # it may wait for ever, and must not keep us
    asking.start()
    asking.join(ANSWERS_S)
    if asking.is_alive():
        raise DataError(
            f"{folder}: does not answer for {ANSWERS_S:g} s", f"check the network{_endpoint(folder)}"
        )
    if raised:
        raise raised[0]


def read_whole(file: Place) -> bytes:
    """All bytes of a file, old or new where another replaces it meanwhile.

    Raises FileNotFoundError if there is none.
    """
    if isinstance(file, Path):
        return file.read_bytes()
    # One request: of a large object s3fs would fetch pieces side by side, some of the old, some of the new
    options = {"max_concurrency": 1} if file.protocol in S3 else {}
    with _plain_errors(file, "read"):
        return bytes(file.fs.cat_file(file.path, **options))


def read_part(file: Place, read: Callable[[Any], Read]) -> Read:
    """What `read` takes from a file, of which it fetches a part; all of it from the old or all from the new.

    read: is given what pyarrow can read, once more where the file was replaced meanwhile.
    Raises FileNotFoundError if there is none, StorageError if it is replaced TRIES times.
    """
    if isinstance(file, Path):
        return read(file)
    with _plain_errors(file, "read"):
        for _ in range(TRIES):
            try:
                with file.fs.open(file.path, "rb", cache_type="none") as handle:
                    return read(handle)
            except OSError as error:
                if error.errno != errno.EBUSY:  # s3fs: it is no longer the one that was opened
                    raise
    raise StorageError(
        f"{file}: is replaced again and again while it is read", "wait for who writes there to end"
    )


def refusal(where: AnyPlace | None, error: OSError, instead: str = "place") -> StorageError:
    """What a disk said while something was written there, with its cure.

    where: what it was about, None where nobody knows.  instead: what the user could choose another of.
    """
    number = error.errno or 0
    reason = os.strerror(number) if number else str(error)
    what = reason if where is None else f"{where}: {reason}"
    cure = NOT_OURS.get(number, "check that disk, or choose another {place}")
    return StorageError(what, cure.format(place=instead))


@contextmanager
def written(where: AnyPlace, instead: str = "place") -> Iterator[None]:
    """What a disk says against writing there, as a StorageError. instead: as `refusal` takes it."""
    try:
        yield
    except OSError as error:
        raise refusal(where, error, instead) from None


def put_whole(file: Place, content: bytes) -> None:
    """Put a file at a URL so that a reader sees the old one, then the new one, and never a part."""
    assert not isinstance(file, Path)
    store, key = file.fs, file.path

    def put(to: str) -> None:
        try:
            store.pipe_file(to, content)
        except FileNotFoundError:  # a storage that has folders
            store.makedirs(store._parent(to), exist_ok=True)  # noqa: SLF001  # fsspec's own, of every storage
            store.pipe_file(to, content)

    with _plain_errors(file, "written"):
        if file.protocol in ONE_STEP:
            put(key)
            return
        partial = f"{store._parent(key)}/.{file.name}.{os.urandom(4).hex()}.partial"  # noqa: SLF001
        try:
            put(partial)
            store.mv(partial, key)
        except BaseException:
            if store.exists(partial):
                store.rm_file(partial)
            raise


def files_below(root: Place) -> list[str]:
    """Names of all files below a URL, as they go on from it; one listing, however many folders."""
    assert not isinstance(root, Path)
    with _plain_errors(root, "listed"):
        return [found.removeprefix(root.path).lstrip("/") for found in root.fs.find(root.path)]


def remove(file: Place) -> None:
    """Remove a file, if it is there."""
    if isinstance(file, Path):
        file.unlink(missing_ok=True)
        return
    with _plain_errors(file, "removed"):
        if file.fs.exists(file.path):
            file.fs.rm_file(file.path)


def copy(file: Place, to: Place) -> None:
    """Copy a file within a store, so that a reader sees at `to` the old one, then the new one, never a part.

    Raises FileNotFoundError if there is none.
    """
    assert not isinstance(file, Path)
    assert not isinstance(to, Path)
    if file.protocol in ONE_STEP:
        with _plain_errors(to, "written"):
            file.fs.cp_file(file.path, to.path)
    else:
        put_whole(to, read_whole(file))


def remove_below(folder: Place) -> None:
    """Remove all files below a URL, if there are any."""
    assert not isinstance(folder, Path)
    with _plain_errors(folder, "removed"), suppress(FileNotFoundError):  # another may remove them too
        folder.fs.rm(folder.path, recursive=True)


def _list(folder: "UPath") -> None:
    try:
        folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError as error:
        if "bucket" in str(error).lower() or "container" in str(error).lower():
            raise DataError(f"{folder}: there is no such bucket", "make it, or mend the name") from None


@contextmanager
def _plain_errors(where: "UPath", done: str) -> Iterator[None]:
    """A store's errors, each library's own, as FileNotFoundError or a StorageError of one line."""
    try:
        yield
    except (DataError, FileNotFoundError):
        raise
    except ImportError as error:
        extra = ": pip install 'wav2bold[s3]'" if where.protocol in S3 else ""
        raise StorageError(
            f"{where}: needs a further package ({_reason(error)})", f"install it{extra}"
        ) from None
    except PermissionError as error:
        raise StorageError(
            f"{where}: may not be {done} ({_reason(error)})",
            "check the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            if where.protocol in S3
            else "check your keys to that storage",
        ) from None
    except ValueError as error:
        if type(error).__module__.startswith("pyarrow"):  # what the file holds is its reader's concern
            raise
        raise StorageError(
            f"{where}: can't be {done} ({_reason(error)})", f"mend it{_endpoint(where)}"
        ) from None
    except Exception as error:  # noqa: BLE001  # botocore's, aiohttp's and google's errors share no base
        raise StorageError(
            f"{where}: can't be {done} ({_reason(error)})", f"check the network{_endpoint(where)}"
        ) from None


def _endpoint(where: "UPath") -> str:
    return ", your keys and AWS_ENDPOINT_URL" if where.protocol in S3 else " and your keys"


def _reason(error: BaseException) -> str:
    lines = masked(str(error)).strip().splitlines()
    return lines[0].partition("?")[0].rstrip('. "')[:200] if lines else type(error).__name__

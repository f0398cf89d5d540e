"""Write the files of a folder of shards, each whole or not at all.

Every file carries, as JSON under `wav2bold` in its Parquet metadata, the digest of all that it was made from:
a file whose digest is still right need not be written again.
"""

import io
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.shards import CARD_NAME, MARKER_NAME, SCHEMA_VERSION, Bold
from wav2bold.datasets.single_writer import ASIDE_NAME, OF_WRITERS, OUT, folder_of
from wav2bold.errors import DataError
from wav2bold.options import write_whole
from wav2bold.places import Place, files_below, put_whole, read_part, remove, within, written

METADATA_KEY = b"wav2bold"
CHUNK_S = 30
"""Sound per row: small enough to stream, large enough to compress."""
PARTS = ("stimuli", "bold", "targets")


def claim(root: Place, token: str = "") -> None:
    """Mark a folder as ours, and what it holds as unfinished until a card is written.

    token: the writer's own name; a store's marker keeps it, so that an older writer sees that it is one.
    Raises DataError as `check_ours` does, StorageError if the marker can't be written.
    """
    check_ours(root)
    marker = f"wav2bold shards, schema {SCHEMA_VERSION}\n"
    if isinstance(root, Path):
        write_whole(root / MARKER_NAME, marker)
    else:
        put_whole(root / MARKER_NAME, f"{marker}{token}\n".encode())
    with written(root / CARD_NAME, OUT):
        remove(root / CARD_NAME)


def check_ours(root: Place) -> None:
    """Raise DataError if a folder holds anything that wav2bold did not write. Changes nothing."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file", "choose another --out")
    names = [other.name for other in root.iterdir()] if root.is_dir() else []
    if not all(name.startswith(OF_WRITERS) for name in names) and not (root / MARKER_NAME).is_file():
        raise DataError(f"{root}: is not empty and was not written by wav2bold", "choose another --out")


def write_story(path: Place, samples: NDArray[np.float32], metadata: Mapping[str, Any]) -> None:
    """The sound of one story, (samples,) at 16 kHz, as rows of 30 s."""
    size = CHUNK_S * SAMPLE_RATE_HZ
    starts = np.arange(0, len(samples), size)
    offsets = pa.array(np.append(starts, len(samples)), pa.int32())
    chunks = pa.ListArray.from_arrays(offsets, pa.array(samples, pa.float32()))
    numbers = pa.array(np.arange(len(starts)), pa.int32())
    _write(path, pa.table({"chunk": numbers, "samples": chunks}), metadata)


def write_run(path: Place, bold: Bold, dtype: str, metadata: Mapping[str, Any]) -> None:
    """One recording. dtype: float16 or float32, of the values."""
    values = pa.array(bold.y.astype(dtype, copy=False).ravel())
    table = pa.table(
        {
            "t": pa.array(bold.t, pa.int32()),
            "time_s": pa.array(bold.time_s, pa.float64()),
            "y": pa.FixedSizeListArray.from_arrays(values, bold.y.shape[1]),
        }
    )
    _write(path, table, metadata)


def write_targets(path: Place, targets: pd.DataFrame, metadata: Mapping[str, Any]) -> None:
    """Where each target of a subject is, and its noise ceiling."""
    _write(path, pa.Table.from_pandas(targets, preserve_index=False), metadata)


def read_metadata(path: Place) -> dict[str, Any]:
    """What a file says it was made from; empty if it is absent, damaged or another's."""
    try:
        stored = read_part(path, pq.read_metadata).metadata or {}
        found = json.loads(stored.get(METADATA_KEY, b"{}"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remove_others(root: Place, keep: set[Place]) -> int:
    """Remove shards of recordings that are gone, and what an interrupted writing left.

    Returns the number of files removed.
    """
    removed = 0
    if not isinstance(root, Path):
        wanted = {within(path, root) for path in keep}
        for name in files_below(root):
            if name.partition("/")[0] in PARTS and name not in wanted:
                remove(root / name)
                removed += 1
        return removed
    with written(root, OUT):
        for part in PARTS:
            for path in sorted((root / part).rglob("*"), reverse=True):  # files before their folders
                if path.is_dir():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path not in keep:
                    path.unlink()
                    removed += 1
    return removed


def _write(path: Place, table: pa.Table, metadata: Mapping[str, Any]) -> None:
    stored = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(metadata).encode()}
    table = table.replace_schema_metadata(stored)
    # Noise doesn't compress, and nobody asks for its range: these would cost time and save nothing
    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    options = {"compression": "lz4", "use_dictionary": False, "write_statistics": plain}
    if not isinstance(path, Path):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        put_whole(path, buffer.getvalue())
        return
    # Readers of whole folders pass over names that begin with a dot
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    with written(folder_of(path), OUT):
        if path.parent.parent.name != ASIDE_NAME:  # a folder of drafts that is gone is gone for good
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A stream that pyarrow opens itself stays open after an error, and holds the room that it took
            with pa.OSFile(str(partial), "wb") as file:
                pq.write_table(table, file, **options)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

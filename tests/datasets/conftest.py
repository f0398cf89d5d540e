"""Where shards can be."""

import uuid
from pathlib import Path

import pytest
from stores import new_bucket

from wav2bold.places import Place


@pytest.fixture(params=["folder", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for shards in which nothing is yet, of each kind."""
    if request.param == "folder":
        return tmp_path / "shards"
    request.getfixturevalue("object_store")
    return new_bucket(f"test-{uuid.uuid4().hex[:12]}")

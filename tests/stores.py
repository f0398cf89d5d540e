"""The kinds of place that shards can be in, for suites that each kind passes."""

import os
from pathlib import Path

import boto3

from wav2bold.places import Place, place, within


def new_bucket(name: str) -> Place:
    """A folder in a new bucket of the store that the environment names; it remembers every write."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return place(f"s3://{name}/my study/shards")


def writes(folder: Place) -> dict[str, str]:
    """Every file with what changes whenever it is written, also with the same bytes."""
    if isinstance(folder, Path):
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {within(p, folder): f"{p.stat().st_mtime_ns} {p.stat().st_ino}" for p in paths}
    bucket, _, prefix = folder.path.partition("/")
    pages = boto3.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    found = [version for page in pages for version in page.get("Versions", []) if version["IsLatest"]]
    return {each["Key"].removeprefix(f"{prefix}/"): each["VersionId"] for each in found}


def contents(folder: Place) -> dict[str, bytes]:
    """Every file with its bytes."""
    if isinstance(folder, Path):
        return {within(path, folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        within(place(f"s3://{key}"), folder): folder.fs.cat_file(key) for key in folder.fs.find(folder.path)
    }


def without_aws() -> dict[str, str]:
    """The environment without keys, endpoints and profiles of AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

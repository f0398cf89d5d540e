"""Jobs run as Ray tasks: each gives its own result or its own mistake."""

from functools import partial
from hashlib import blake2b
from pathlib import Path

import pytest

from wav2bold.datasets.scan import file_digest
from wav2bold.datasets.tasks import JOBS_PER_TASK, TASKS_PER_CPU, each
from wav2bold.errors import DataError, UserError

MANY = 2 * TASKS_PER_CPU * JOBS_PER_TASK + 5
"""More than two CPUs take one by one: several share a task."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """As many as there are jobs, of which every third is absent."""
    paths = [tmp_path / f"{number}.txt" for number in range(MANY)]
    for path in paths:
        if int(path.stem) % 3:
            path.write_text(path.stem)
    return paths


@pytest.mark.parametrize("jobs", [3, MANY])
def test_one_jobs_mistake_is_not_that_of_others_in_its_task(
    jobs: int, files: list[Path], small_ray: None
) -> None:
    refused: dict[str, UserError] = {}
    counted: list[int] = []
    given = [(path.name, partial(file_digest, path)) for path in files[:jobs]]
    found = each("digesting", given, lambda what, done, of: counted.append(done), 0, refused.setdefault)
    assert found == {
        number: blake2b(str(number).encode(), digest_size=16).hexdigest()
        for number in range(jobs)
        if number % 3
    }
    assert list(found) == sorted(found)
    assert [*refused] == [f"{number}.txt" for number in range(0, jobs, 3)], "whichever task ended first"
    assert all(name in str(error) for name, error in refused.items())
    assert counted == [*range(1, jobs + 1)]


def test_the_first_mistake_ends_all_where_nobody_is_told(files: list[Path], small_ray: None) -> None:
    with pytest.raises(DataError, match=r"/\d+\.txt: can't be read \(No such file"):
        each("digesting", [(path.name, partial(file_digest, path)) for path in files], print, 0)

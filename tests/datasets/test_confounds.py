"""Confounds by a named strategy are nilearn's own, of a file that fMRIPrep wrote."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces import fmriprep
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from recordings import add_story, add_volumes, noise
from scipy.stats import zscore

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.cleaning import clean, drifts, read_confounds
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import run_key
from wav2bold.errors import DataError

VOLUMES = 30
FMRIPREP = Path(fmriprep.__file__).parent / "data"
"""Nilearn brings a confounds file of 30 volumes of each of two versions of fMRIPrep."""


def recorded(root: Path) -> Run:
    add_story(root, "story1")
    bold = add_volumes(root, noise(3, 4, 2, VOLUMES))
    stem = bold.name.partition("_space")[0] + "_desc-confounds_timeseries"
    for suffix in (".tsv", ".json"):
        shutil.copy(FMRIPREP / f"test-v21_desc-confounds_timeseries{suffix}", bold.with_name(stem + suffix))
    return find_runs(root)[0]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return recorded(tmp_path / "recordings")


def without_unsteady(run: Run) -> pd.DataFrame:
    """The file, saying that the scanner was steady from the first volume on."""
    assert run.confounds is not None
    table = pd.read_csv(run.confounds, sep="\t")
    table = table.drop(columns=[name for name in table if "non_steady" in name])
    table.to_csv(run.confounds, sep="\t", index=False, na_rep="n/a")
    return table


def nilearns(run: Run, name: str, **more: object) -> pd.DataFrame:
    """What nilearn gives for the files as they lie, beside the BOLD."""
    if name == "motion":
        return load_confounds(str(run.bold[0]), ("motion", "high_pass"), demean=False)[0]
    return load_confounds_strategy(str(run.bold[0]), name, demean=False, **more)[0]


@pytest.mark.parametrize(("name", "least"), [("motion", 24), ("simple", 26), ("compcor", 24 + 5)])
def test_a_strategy_is_nilearns_without_the_drifts_that_are_taken_anyway(
    run: Run, name: str, least: int
) -> None:
    without_unsteady(run)
    table = nilearns(run, name, **({"n_compcor": 5} if name == "compcor" else {}))
    cosines = [column for column in table if column.startswith("cosine")]
    got = read_confounds(run, Cleaning(confounds_strategy=name), VOLUMES)
    assert got is not None
    assert got.shape[1] == least
    np.testing.assert_array_equal(got, table.drop(columns=cosines))
    for period_s in (None, 200.0):
        all_of_it = read_confounds(run, Cleaning(confounds_strategy=name, high_pass_s=period_s), VOLUMES)
        assert cosines
        np.testing.assert_array_equal(all_of_it, table)


def test_as_many_components_as_asked_for(run: Run) -> None:
    without_unsteady(run)
    two = read_confounds(run, Cleaning(confounds_strategy="compcor", compcor_components=2), VOLUMES)
    expected = nilearns(run, "compcor", n_compcor=2)
    assert two is not None
    assert two.shape == (VOLUMES, 24 + 2)
    np.testing.assert_array_equal(two, expected[[name for name in expected if "cosine" not in name]])


def test_a_strategy_needs_no_fmriprep_name_of_the_bold(run: Run, tmp_path: Path) -> None:
    without_unsteady(run)
    expected = read_confounds(run, Cleaning(confounds_strategy="compcor"), VOLUMES)
    assert run.confounds is not None
    elsewhere = tmp_path / "my confounds.tsv"
    shutil.copy(run.confounds, elsewhere)
    shutil.copy(run.confounds.with_suffix(".json"), elsewhere.with_suffix(".json"))
    other = replace(run, bold=(tmp_path / "bold.hf5",), confounds=elsewhere)
    np.testing.assert_array_equal(
        read_confounds(other, Cleaning(confounds_strategy="compcor"), VOLUMES), expected
    )


def test_components_without_their_sidecar_are_asked_for(run: Run) -> None:
    assert run.confounds is not None
    sidecar = run.confounds.with_suffix(".json")
    sidecar.unlink()
    with pytest.raises(DataError) as caught:
        read_confounds(run, Cleaning(confounds_strategy="compcor"), VOLUMES)
    assert str(caught.value) == (
        f"{run.confounds}: no {sidecar.name} beside it says which components are whose; "
        "fetch it, or take cleaning.confounds_strategy: simple"
    )
    without_unsteady(run)
    assert read_confounds(run, Cleaning(confounds_strategy="simple"), VOLUMES) is not None


def test_volumes_before_the_scanner_was_steady_must_be_dropped(run: Run) -> None:
    simple = Cleaning(confounds_strategy="simple")
    with pytest.raises(DataError) as caught:
        read_confounds(run, simple, VOLUMES)
    assert "says that the scanner was not steady up to volume 2; set cleaning.drop_first: 3" in str(
        caught.value
    )
    got = read_confounds(run, simple.model_copy(update={"drop_first": 3}), VOLUMES)
    assert got is not None
    assert got.shape == (VOLUMES, 26)  # as long as the BOLD: nothing is left out


def test_a_file_without_what_the_strategy_needs_says_so(run: Run) -> None:
    table = without_unsteady(run)
    table.drop(columns=["csf", "white_matter"]).to_csv(run.confounds, sep="\t", index=False, na_rep="n/a")
    with pytest.raises(DataError) as caught:
        read_confounds(run, Cleaning(confounds_strategy="simple"), VOLUMES)
    message = str(caught.value)
    assert f"{run.confounds}: can't give the strategy simple" in message
    assert "wm_csf" in message
    assert message.endswith("take another cleaning.confounds_strategy, or name columns in cleaning.confounds")
    assert "\n" not in message


def test_confounds_of_another_length_are_named(run: Run) -> None:
    without_unsteady(run)
    with pytest.raises(DataError, match="30 rows, the BOLD has 31 volumes"):
        read_confounds(run, Cleaning(confounds_strategy="motion"), VOLUMES + 1)


def test_no_confounds_file_names_the_strategy(run: Run) -> None:
    with pytest.raises(DataError, match=r"add it or empty cleaning\.confounds_strategy"):
        read_confounds(replace(run, confounds=None), Cleaning(confounds_strategy="motion"), VOLUMES)


def test_the_ends_are_dropped_before_anything_is_fitted() -> None:
    rng = np.random.default_rng(0)
    y, confounds = noise(60, 4), rng.standard_normal((60, 3))
    y[:5] += 1e4
    y[-7:] -= 1e4
    got = clean(y, 2.0, Cleaning(drop_first=5, drop_last=7), confounds)
    X = np.column_stack([np.ones(48), np.arange(48), drifts(48, 2.0, 128.0), confounds[5:-7]])
    inner = y[5:-7].astype(float)
    left = inner - X @ np.linalg.lstsq(X, inner, rcond=None)[0]
    np.testing.assert_allclose(got, zscore(left, ddof=1), atol=1e-4)


def test_dropping_more_than_there_is_says_so() -> None:
    with pytest.raises(DataError, match="0 volumes, from which cleaning takes"):
        clean(noise(10, 3), 2.0, Cleaning(drop_first=6, drop_last=6))


def test_the_sidecar_and_the_new_options_decide_a_recordings_digest(run: Run, tmp_path: Path) -> None:
    without_unsteady(run)

    def key(**options: object) -> str:
        return run_key(run, Cleaning(**options), Targets())[1]

    keys = [
        key(high_pass_s=None),
        key(high_pass_s=None, drop_last=1),
        key(high_pass_s=None, drop_last=2),
        key(detrend=False, confounds_strategy="compcor", compcor_components=1),
    ]
    assert run.confounds is not None
    sidecar = run.confounds.with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"note": 1}))
    keys.append(key(detrend=False, confounds_strategy="compcor", compcor_components=1))
    assert len(set(keys)) == len(keys)
    assert key(high_pass_s=None) == keys[0]

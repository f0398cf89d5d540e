"""A window hears what was said up to its volume, all of it, and nothing else."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listeners import InMemory, in_memory, volumes

from wav2bold.config import Split
from wav2bold.datasets.recording import story_times_s
from wav2bold.datasets.shards import Bold
from wav2bold.datasets.splits import split_stories
from wav2bold.datasets.windows import Windows, window_length, window_slice, window_stop, windows
from wav2bold.errors import DataError

RATE_HZ = 16_000
TR_MS = st.integers(300, 3000)
ONSET_MS = st.integers(-5000, 20_000)
HISTORY = st.integers(1, 12)
"""Sounds are longer than 13 of the longest TRs, so that some volume has heard the longest history."""


def numbered(count: int, tr_ms: int, onset_ms: int = 0) -> Bold:
    """A recording whose only target is the number of its volume; times as floating point has them."""
    return volumes(np.arange(count)[:, None], tr_ms / 1000, onset_ms / 1000)


def one_story(tr_ms: int, onset_ms: int, samples: int, count: int) -> InMemory:
    return in_memory(
        {"ferry": samples / RATE_HZ}, {("sub-001", "ferry"): numbered(count, tr_ms, onset_ms)}, tr_ms / 1000
    )


def exact_time_s(tr_ms: int, onset_ms: int, t: int) -> Fraction:
    return Fraction(t * tr_ms - onset_ms, 1000)


@given(tr_ms=TR_MS, onset_ms=ONSET_MS, history=HISTORY, samples=st.integers(625_000, 1_000_000))
@settings(max_examples=200, deadline=None)
def test_every_window_ends_at_its_volume_and_lies_within_the_story(
    tr_ms: int, onset_ms: int, history: int, samples: int
) -> None:
    found = windows(one_story(tr_ms, onset_ms, samples, 120), ["sub-001"], ["ferry"], history)
    length = window_length(tr_ms / 1000, history)
    for stop, (number,) in zip(found.stop, found.y, strict=True):
        heard_s = exact_time_s(tr_ms, onset_ms, int(number))
        last_sample_s = Fraction(int(stop) - 1, RATE_HZ)
        assert last_sample_s < heard_s  # nothing from after the volume's own time
        assert stop == floor(heard_s * RATE_HZ)  # and nothing missing before it
        assert length <= stop <= samples


@given(tr_ms=TR_MS, onset_ms=ONSET_MS, history=HISTORY, samples=st.integers(625_000, 1_000_000))
@settings(max_examples=100, deadline=None)
def test_volumes_with_a_complete_history_are_kept_and_the_others_counted(
    tr_ms: int, onset_ms: int, history: int, samples: int
) -> None:
    found = windows(one_story(tr_ms, onset_ms, samples, 120), ["sub-001"], ["ferry"], history)
    length = round(Fraction(history * tr_ms, 1000) * RATE_HZ)
    complete = [
        t for t in range(120) if length <= floor(exact_time_s(tr_ms, onset_ms, t) * RATE_HZ) <= samples
    ]
    assert found.y[:, 0].tolist() == complete
    assert found.dropped == 120 - len(complete)


@given(tr_ms=TR_MS, onset_ms=ONSET_MS)
@settings(max_examples=100, deadline=None)
def test_windows_keep_step_with_the_scanner_for_an_hour(tr_ms: int, onset_ms: int) -> None:
    count = 3_600_000 // tr_ms
    times_s = numbered(count, tr_ms, onset_ms).time_s
    stops = np.array([window_stop(float(time_s)) for time_s in times_s])
    away = [stop - exact_time_s(tr_ms, onset_ms, t) * RATE_HZ for t, stop in enumerate(stops)]
    assert min(away) > -1
    assert max(away) <= 0
    assert set(np.diff(stops)) <= {floor(tr_ms * 16), floor(tr_ms * 16) + 1}


# refining, in the same process, flushes denormals, of which hypothesis complains
@given(time_s=st.floats(0, 4000, allow_subnormal=False), tr_s=st.floats(0.3, 3.0), history=HISTORY)
@settings(deadline=None)
def test_a_slice_is_as_long_as_the_history_or_refused(time_s: float, tr_s: float, history: int) -> None:
    if window_stop(time_s) < window_length(tr_s, history):
        with pytest.raises(DataError, match=rf"a history of {history} TRs .* begins before the story"):
            window_slice(time_s, tr_s, history)
        return
    part = window_slice(time_s, tr_s, history)
    assert part.start >= 0
    assert part.stop <= Fraction(time_s) * RATE_HZ + Fraction(1, 10_000)
    assert abs((part.stop - part.start) / RATE_HZ - history * tr_s) <= 0.5 / RATE_HZ


DECIMAL_TR = st.sampled_from(
    ["2.0045", "1.49", "0.72", "0.8", "1.1", "2.00449", "1.3333333", "2.5000001"]
) | (st.decimals("0.3", "3", places=7).map(str))
"""TRs as sidecars write them; of most, no volume but the first falls on a sample."""
DECIMAL_ONSET = st.sampled_from(["0", "-0.0001", "10.045", "-12.5"]) | st.decimals("-60", "60", places=5).map(
    str
)
"""When the story begins in the scan; below 0, it began before the scan."""


def as_prepared(tr_s: str, onset_s: str, count: int) -> Bold:
    """A recording with the times that `prepare` writes; its only target is the number of its volume."""
    t = np.arange(count, dtype=np.int32)
    return Bold(t, story_times_s(t, float(tr_s), float(onset_s)), t[:, None].astype(np.float32))


def exact_samples(tr_s: str, onset_s: str, t: int) -> Fraction:
    """Time of a volume in the story, in samples."""
    return (t * Fraction(tr_s) - Fraction(onset_s)) * RATE_HZ


@given(tr_s=DECIMAL_TR, onset_s=DECIMAL_ONSET, history=HISTORY, samples=st.integers(1, 1_600_000))
@settings(max_examples=200, deadline=None)
def test_whatever_the_tr_no_window_reads_past_its_volume_and_none_is_lost(
    tr_s: str, onset_s: str, history: int, samples: int
) -> None:
    told = as_prepared(tr_s, onset_s, 60)
    shards = in_memory({"ferry": samples / RATE_HZ}, {("sub-001", "ferry"): told}, float(tr_s))
    length = window_length(float(tr_s), history)
    assert length == round(history * Fraction(tr_s) * RATE_HZ)
    ends = {t: floor(exact_samples(tr_s, onset_s, t)) for t in range(60)}
    complete = [t for t, end in ends.items() if length <= end <= samples]
    if not complete:
        with pytest.raises(DataError, match="no volume of ferry has a history"):
            windows(shards, ["sub-001"], ["ferry"], history)
        return
    found = windows(shards, ["sub-001"], ["ferry"], history)
    assert found.y[:, 0].tolist() == complete
    assert found.stop.tolist() == [ends[t] for t in complete]
    for stop, t in zip(found.stop, complete, strict=True):
        # sample n is heard from n / 16,000 s on: the last one read began before the volume was acquired
        assert int(stop) - 1 < exact_samples(tr_s, onset_s, t)
        part = window_slice(float(told.time_s[t]), float(tr_s), history)
        assert (part.start, part.stop) == (stop - length, stop)


@given(tr_s=DECIMAL_TR, onset_s=DECIMAL_ONSET)
@settings(max_examples=30, deadline=None)
def test_whatever_the_tr_windows_keep_step_for_an_hour(tr_s: str, onset_s: str) -> None:
    count = int(3600 / float(tr_s))
    stops = [window_stop(time) for time in as_prepared(tr_s, onset_s, count).time_s.tolist()]
    away = [stop - exact_samples(tr_s, onset_s, t) for t, stop in enumerate(stops)]
    assert min(away) > -1  # never a sample short
    assert max(away) <= 0  # nor a sample too far, after an hour as at the beginning
    step = Fraction(tr_s) * RATE_HZ
    assert set(np.diff(stops)) <= {floor(step), floor(step) + 1}


def test_lebels_clock_does_not_slip_in_an_hour() -> None:
    """TR 2.0045 s is 32,072 samples: whole seconds would be 4 s away after 1,800 volumes."""
    stops = [window_stop(time) for time in as_prepared("2.0045", "-10.045", 1796).time_s.tolist()]
    assert stops == [160_720 + 32_072 * t for t in range(1796)]


@given(
    tr_s=DECIMAL_TR,
    onsets=st.lists(st.decimals("-15", "10", places=5).map(str), min_size=4, max_size=4),
    samples=st.lists(st.integers(850_000, 1_000_000), min_size=4, max_size=4),
    history=HISTORY,
    names=st.permutations(["bakery", "ferry", "library", "orchard"]),
)
@settings(max_examples=30, deadline=None)
def test_no_split_reads_a_sample_that_another_reads(
    tr_s: str, onsets: list[str], samples: list[int], history: int, names: list[str]
) -> None:
    shards = in_memory(
        {name: count / RATE_HZ for name, count in zip(names, samples, strict=True)},
        {("sub-001", name): as_prepared(tr_s, onset, 150) for name, onset in zip(names, onsets, strict=True)},
        float(tr_s),
    )
    parts = split_stories(Split(validation=(names[0],), test=(names[1],)), shards.card)
    length = window_length(float(tr_s), history)
    # every sample of every story has a place of its own
    first = dict(zip(names, np.cumsum([0, *samples[:-1]]).tolist(), strict=True))
    reads = np.zeros(sum(samples), np.int64)
    for stories in (parts.train, parts.validation, parts.test):
        heard = np.zeros(len(reads), bool)
        found = windows(shards, ["sub-001"], stories, history)
        for story, stop in zip(found.story.tolist(), found.stop.tolist(), strict=True):
            assert stop <= samples[names.index(story)]
            heard[first[story] + stop - length : first[story] + stop] = True
        assert heard.any()
        reads += heard
    assert reads.max() == 1


@pytest.mark.parametrize(("missing", "kept"), [(0, [4, 5, 6]), (1, [4, 5])])
def test_a_volume_counts_if_the_story_lasts_to_its_very_sample(missing: int, kept: list[int]) -> None:
    shards = one_story(1500, 0, 9 * RATE_HZ - missing, 10)
    assert windows(shards, ["sub-001"], ["ferry"], 4).y[:, 0].tolist() == kept


def test_a_time_that_lacks_rounding_only_counts_as_its_sample() -> None:
    assert window_stop(4.4999999999) == window_stop(4.5) == 72_000
    assert window_stop(4.49999) == 71_999


@given(names=st.permutations(["bakery", "ferry", "library", "orchard"]), history=HISTORY)
@settings(max_examples=25, deadline=None)
def test_no_sample_is_heard_in_two_splits(names: list[str], history: int) -> None:
    shards = in_memory(
        dict.fromkeys(names, 60.0),
        {("sub-001", name): numbered(40, 1500) for name in names},
        1.5,
    )
    stories = split_stories(Split(validation=(names[0],), test=(names[1],)), shards.card)
    length = window_length(1.5, history)

    def heard(some: Windows) -> set[tuple[str, int]]:
        seconds = {
            (str(story), second)
            for story, stop in zip(some.story, some.stop, strict=True)
            for second in range((stop - length) // RATE_HZ, -(-stop // RATE_HZ))
        }
        assert seconds
        return seconds

    splits = [
        heard(windows(shards, ["sub-001"], part, history))
        for part in (stories.train, stories.validation, stories.test)
    ]
    assert sum(map(len, splits)) == len(set.union(*splits))


def joint() -> tuple[Windows, Windows, Windows]:
    """sub-001 and sub-002 together and alone; the second heard one story less, in a shorter scan."""
    one, two = np.random.default_rng(0).standard_normal((2, 40, 3)).astype(np.float32)
    shards = in_memory(
        {"ferry": 45.0, "bakery": 45.0},
        {
            ("sub-001", "ferry"): volumes(one, 1.5),
            ("sub-001", "bakery"): volumes(-one, 1.5),
            ("sub-002", "ferry"): volumes(two[:20, :2], 1.5),
        },
        1.5,
    )
    stories = ["ferry", "bakery"]
    return (
        windows(shards, ["sub-001", "sub-002"], stories, 4),
        windows(shards, ["sub-001"], stories, 4),
        windows(shards, ["sub-002"], stories, 4),
    )


def test_subjects_who_heard_the_same_moment_share_its_row() -> None:
    both, one, two = joint()
    assert both.subject.tolist() == ["sub-001"] * 3 + ["sub-002"] * 2
    np.testing.assert_array_equal(both.stop, one.stop)
    np.testing.assert_array_equal(both.y[:, :3], one.y)
    rows = [
        list(zip(both.story, both.stop, strict=True)).index(key)
        for key in zip(two.story, two.stop, strict=True)
    ]
    np.testing.assert_array_equal(both.y[rows, 3:], two.y)
    assert both.dropped == one.dropped + two.dropped


def test_a_volume_that_a_subject_lacks_is_nan() -> None:
    both, _, two = joint()
    assert len(two) < len(both)
    assert np.isfinite(both.y[:, :3]).all()
    assert np.isfinite(both.y[:, 3:]).all(axis=1).sum() == len(two)
    assert np.isnan(both.y[both.story == "bakery", 3:]).all()


def test_rows_of_a_story_stand_together_in_order_of_time() -> None:
    both, _, _ = joint()
    assert list(dict.fromkeys(both.story)) == ["ferry", "bakery"]
    for story in ("ferry", "bakery"):
        rows = np.flatnonzero(both.story == story)
        assert (np.diff(rows) == 1).all()
        assert (np.diff(both.stop[rows]) == 24_000).all()


def test_a_subject_who_heard_none_of_the_stories_is_named() -> None:
    shards = in_memory(
        {"ferry": 45.0, "bakery": 45.0},
        {("sub-001", "ferry"): numbered(30, 1500), ("sub-002", "bakery"): numbered(30, 1500)},
        1.5,
    )
    with pytest.raises(DataError) as raised:
        windows(shards, ["sub-001", "sub-002"], ["ferry"], 4)
    assert str(raised.value) == "sub-002 heard none of ferry; change split in the study file"


def test_a_history_longer_than_the_story_is_refused() -> None:
    with pytest.raises(DataError) as raised:
        windows(one_story(1500, 0, 10 * RATE_HZ, 30), ["sub-001"], ["ferry"], 8)
    assert str(raised.value) == (
        "no volume of ferry has a history of 8 TRs; shorten search.space.history or take longer stories"
    )

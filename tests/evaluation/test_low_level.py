"""Low-level features are those of speech recognisers, hear no future, and leave room for an encoder."""

import numpy as np
import pytest
from hearers import HISTORY, STORIES, TARGETS, World, world
from listeners import RATE_HZ, in_memory, speech, volumes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
from typer.testing import CliRunner

import wav2bold
from wav2bold.cli import app
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import windows
from wav2bold.evaluation.banded import ALPHAS, banded_predictions, mixtures
from wav2bold.evaluation.low_level import BANDS, FRAME, STEP, low_level, spectrum


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("hearers"))


def test_log_mel_energies_are_those_of_transformers() -> None:
    sound = speech(2, 0)
    truth = spectrogram(
        sound,
        window_function(FRAME, "hann"),
        FRAME,
        STEP,
        fft_length=FRAME,
        power=2.0,
        center=False,
        mel_filters=mel_filter_bank(FRAME // 2 + 1, BANDS, 0, RATE_HZ / 2, RATE_HZ),
        mel_floor=1e-10,
        log_mel="log10",
    ).T
    found = spectrum(sound)
    assert found.shape == (len(truth), BANDS + 1)
    np.testing.assert_allclose(found[:, :BANDS], truth, atol=1e-3)
    np.testing.assert_allclose(found[7, BANDS], sound[7 * STEP : 7 * STEP + FRAME].std(), rtol=0.05)


def of_sound(sound: np.ndarray) -> Shards:
    seconds = len(sound) / RATE_HZ
    bold = {("sub-001", "ferry"): volumes(np.zeros((int(seconds) + 1, 1)), 1.0)}
    return in_memory({"ferry": seconds}, bold, 1.0, {"ferry": sound})


def test_a_window_hears_its_own_trs_and_nothing_later() -> None:
    sound = speech(12, 1)
    shards = of_sound(sound)
    some = windows(shards, ["sub-001"], ["ferry"], 3)
    found = low_level(shards, some, 3).reshape(len(some), 3, BANDS + 1)
    frames = spectrum(sound)
    ends = STEP * np.arange(len(frames)) + FRAME
    stop = some.stop[4]
    for tr in range(3):
        edge = stop - (2 - tr) * RATE_HZ
        own = frames[(ends > edge - RATE_HZ) & (ends <= edge)]
        np.testing.assert_allclose(found[4, tr], own.mean(0), rtol=1e-4)
    later = sound.copy()
    later[stop:] = 0
    changed = low_level(of_sound(later), some, 3).reshape(found.shape)
    np.testing.assert_array_equal(changed[:5], found[:5])
    assert (changed[5:] != found[5:]).any()


def test_banded_ridge_finds_which_band_a_target_hears_where_plain_ridge_drowns() -> None:
    """A few features that matter among many that don't."""
    random = np.random.default_rng(0)
    story = np.repeat(["a", "b", "c"], 60)
    few, many = random.standard_normal((260, 4)), random.standard_normal((260, 400))
    y = few @ random.standard_normal((4, 5)) + random.standard_normal((260, 5))
    bands = [few.astype(np.float32), many.astype(np.float32)]
    train, test = [one[:180] for one in bands], [one[180:] for one in bands]
    predicted = banded_predictions(train, test, y[:180].astype(np.float32), story, 2)
    joint = np.hstack(bands)
    plain = Ridge(300.0).fit(joint[:180], y[:180]).predict(joint[180:])
    alone = Ridge(1.0).fit(few[:180], y[:180]).predict(few[180:])

    def r(guess: np.ndarray) -> float:
        return float(np.mean([np.corrcoef(guess[:, v], y[180:, v])[0, 1] for v in range(5)]))

    assert r(predicted) > r(plain) + 0.1
    assert r(predicted) == pytest.approx(r(alone), abs=0.03)


def test_one_band_is_plain_ridge() -> None:
    random = np.random.default_rng(1)
    story = np.repeat(["a", "b", "c"], 40)
    x = random.standard_normal((150, 6)).astype(np.float32)
    y = (x @ random.standard_normal((6, 3)) + random.standard_normal((150, 3))).astype(np.float32)
    predicted = banded_predictions([x[:120]], [x[120:]], y[:120], story, 2)
    x = (x - x[:120].mean(0)) / x[:120].std(0)
    level = y[:120].mean(0)
    for v in range(3):
        grid = GridSearchCV(
            Ridge(fit_intercept=False),
            {"alpha": 6 * ALPHAS},  # a row's mean square is 1 when its 6 features are divided by their number
            cv=PredefinedSplit(np.repeat([0, 1, 2], 40)),
            scoring="neg_mean_squared_error",
        )
        truth = grid.fit(x[:120], y[:120, v] - level[v]).predict(x[120:]) + level[v]
        np.testing.assert_allclose(predicted[:, v], truth, atol=1e-4)


def test_shares_add_up_and_hold_each_band_alone() -> None:
    found = mixtures(2, 20, 0)
    assert found.shape == (20, 2)
    np.testing.assert_allclose(found.sum(1), 1)
    assert found[:2].max(1).min() > 0.999
    np.testing.assert_array_equal(found, mixtures(2, 20, 0))


def test_brains_that_hear_as_the_encoder_does_hear_more_than_a_cochlea(made: World) -> None:
    found = {one.subject: one for one in wav2bold.score_beyond(made.study, subjects=["sub-001", "sub-null"])}
    hears, none = found["sub-001"], found["sub-null"]
    assert hears.low_level.value < hears.alone.value
    assert hears.gain.low > 0.05
    assert hears.both.value > hears.alone.value - 0.03
    assert 0.05 < hears.unique_r2 < 0.64
    assert hears.improved > TARGETS / 2
    assert none.gain.low < 0.05
    assert none.improved <= 1
    assert hears.gain.value == pytest.approx(hears.both.value - hears.low_level.value)


def test_useless_features_beside_them_cost_low_level_targets_little(made: World) -> None:
    """Planted: BOLD is a low-level feature and noise."""
    random = np.random.default_rng(5)
    rows = [windows(made.shards, ["sub-001"], some, HISTORY) for some in (STORIES.train, STORIES.test)]
    sound = [low_level(made.shards, some, HISTORY) for some in rows]
    level = [one.reshape(len(one), HISTORY, -1)[:, 1, -1] for one in sound]
    mean, sd = level[0].mean(), level[0].std()
    y = [((one - mean) / sd)[:, None] + random.standard_normal((len(one), 6)) for one in level]
    useless = [random.standard_normal((len(one), 128)).astype(np.float32) for one in level]
    r = []
    for bands in ([sound], [useless, sound]):
        train, test = ([one[role] for one in bands] for role in range(2))
        guess = banded_predictions(train, test, y[0].astype(np.float32), rows[0].story, HISTORY)
        r.append(np.mean([np.corrcoef(guess[:, v], y[1][:, v])[0, 1] for v in range(6)]))
    assert r[0] > 0.55, "0.71 is the most that noise allows"
    assert r[1] > r[0] - 0.04


def test_the_command_shows_what_is_beyond(made: World) -> None:
    done = CliRunner().invoke(app, ["score", str(made.study), "--subjects", "sub-001", "--low-level"])
    assert done.exit_code == 0, done.output
    assert "unique" in done.stdout
    assert "sub-001" in done.stdout

"""One pass over a stretch serves every volume in it, and none hears its future but where the docs say so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from listeners import RATE_HZ, in_memory, noise_listeners, save_small_wav2vec2, speech
from refining import configuration, material, run
from small_encoders import save_small

from wav2bold.datasets.shards import Bold
from wav2bold.datasets.windows import Windows, windows
from wav2bold.errors import EncoderError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Boundary, Encoder, load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.parameter_types import boundary_of, unfrozen_names
from wav2bold.trainables.stretches import StretchedHearing, mask_of, stretches_of, tr_of_frame

TR_S, HISTORY, SECONDS = 1.0, 2, 22.0
SOUNDS = {name: speech(SECONDS, seed) for seed, name in enumerate(("ferry", "bakery"))}


def some_windows(onset_s: float = 0.0) -> tuple[object, Windows]:
    bold = noise_listeners(tuple(SOUNDS), SECONDS, TR_S, {"sub-1": 3})
    bold = {key: Bold(run.t, run.time_s - onset_s, run.y) for key, run in bold.items()}
    shards = in_memory(dict.fromkeys(SOUNDS, SECONDS), bold, TR_S, SOUNDS)
    return shards, windows(shards, ["sub-1"], list(SOUNDS), HISTORY)


def small(folder: Path, **options: object) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(folder, "large", False, **options)))


def stretched(
    encoder: Encoder,
    folder: Path,
    seconds: float = 8.0,
    boundary: Boundary | None = None,
    onset_s: float = 0.0,
) -> StretchedHearing:
    shards, some = some_windows(onset_s)
    top = boundary or Boundary("layer", encoder.layers)
    return StretchedHearing(encoder, shards, ActivationStore(folder), some, HISTORY, top, seconds)


@given(
    st.floats(0.5, 3.0),
    st.integers(1, 6),
    st.floats(1.0, 40.0),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.floats(0, 2.9),
)
def test_every_row_is_once_in_a_stretch_that_holds_its_history(
    tr_s: float, history: int, seconds: float, missing: list[bool], onset_s: float
) -> None:
    """Whatever the TR, the clock, and the volumes that are missing."""
    length = round(history * tr_s * RATE_HZ)
    stops = [int((onset_s + t * tr_s) * RATE_HZ + 1e-6) for t in range(40) if not missing[t]]
    stops = [stop for stop in stops if length <= stop]
    if not stops:
        return
    samples = max(stops) + 37
    some = Windows(
        np.array(["ferry"] * len(stops)),
        np.array(stops),
        np.zeros((len(stops), 1), np.float32),
        np.array(["a"]),
        0,
    )
    found = stretches_of(some, {"ferry": samples}, tr_s, history, seconds)
    assert sorted(row for one in found for row in one.rows) == list(range(len(stops)))
    for one in found:
        assert one.first >= 0
        assert one.first + one.samples <= samples
        assert one.samples == min(max(round(seconds * RATE_HZ), length), samples)
        for row, stop in zip(one.rows, one.stop, strict=True):
            assert one.first + stop == stops[row]
            assert length <= stop <= one.samples


def test_no_frame_attends_to_a_later_tr_and_none_is_read_that_ends_after_the_volume(tmp_path: Path) -> None:
    hearing = stretched(small(tmp_path / "encoder"), tmp_path / "store", onset_s=0.3)
    for one in hearing.stretches:
        frames = hearing.encoder.frames(one.samples)
        ends = np.arange(frames) * 320 + 400
        tr = tr_of_frame(hearing.encoder, one, TR_S)
        mask = mask_of(tr)
        for frame in range(0, frames, 7):
            own_end = one.stop[0] + tr[frame] * RATE_HZ
            assert own_end - RATE_HZ < ends[frame] <= own_end
            np.testing.assert_array_equal(mask[frame], ends <= own_end)
        pool = hearing._pool(one).numpy()
        np.testing.assert_allclose(pool.sum(2), 1, rtol=1e-5)
        for row, stop in enumerate(one.stop):
            for back in range(HISTORY):
                read = ends[pool[row, HISTORY - 1 - back] > 0]
                assert stop - (back + 1) * RATE_HZ < read.min()
                assert read.max() <= stop - back * RATE_HZ


def changed_later(hearing: StretchedHearing | Hearing, row: int) -> float:
    """How much the features of a row change, of their spread, when all sound after its volume does."""
    before = hearing.all_pooled(hearing.encoder.model)
    story, stop = str(hearing.windows.story[row]), int(hearing.windows.stop[row])
    sound = hearing.shards.sounds[story].copy()
    sound[stop:] = speech(SECONDS, 99)[stop:]
    shards = in_memory(
        dict.fromkeys(SOUNDS, SECONDS), hearing.shards.told, TR_S, hearing.shards.sounds | {story: sound}
    )
    options = {name: getattr(hearing, name) for name in ("encoder", "windows", "history", "boundary")}
    if isinstance(hearing, StretchedHearing):
        options["seconds"] = hearing.seconds
    other = type(hearing)(shards=shards, store=ActivationStore(hearing.store.folder / "other"), **options)
    after = other.all_pooled(hearing.encoder.model)
    return float(np.abs(after[row] - before[row]).max() / before.std())


def test_in_a_window_nothing_looks_ahead(tmp_path: Path) -> None:
    encoder = small(tmp_path / "encoder")
    shards, some = some_windows()
    hearing = Hearing(encoder, shards, ActivationStore(tmp_path / "store"), some, HISTORY, Boundary("conv"))
    assert changed_later(hearing, 5) == 0


def test_in_a_stretch_only_the_positional_convolution_looks_ahead(tmp_path: Path) -> None:
    """By half its kernel of 8 frames here; without it nothing does. A group norm over time does, too."""
    encoder = small(tmp_path / "encoder")
    row = 3
    with_positions = changed_later(stretched(encoder, tmp_path / "a", boundary=Boundary("conv")), row)
    assert 1e-5 < with_positions < 1
    with torch.no_grad():
        for name, value in encoder.model.named_parameters():
            if "pos_conv_embed" in name:
                value.zero_() if name.endswith("bias") else value.fill_(1e-12)
    assert changed_later(stretched(encoder, tmp_path / "b", boundary=Boundary("conv")), row) < 1e-6
    over_time = load_encoder(str(save_small_wav2vec2(tmp_path / "base", "base", False)))
    assert changed_later(stretched(over_time, tmp_path / "c", boundary=Boundary("conv")), row) > 1e-5


def test_of_one_layer_the_last_tr_is_transformers_own_of_what_was_heard_so_far(tmp_path: Path) -> None:
    """Without positions, a frame of the newest TR attends to all that came before, as without a mask."""
    encoder = small(tmp_path / "encoder", num_hidden_layers=1)
    with torch.no_grad():
        for name, value in encoder.model.named_parameters():
            if "pos_conv_embed" in name:
                value.zero_() if name.endswith("bias") else value.fill_(1e-12)
    hearing = stretched(encoder, tmp_path / "store")
    features = hearing.all_pooled(encoder.model).reshape(len(hearing.windows), HISTORY, -1)
    for one in hearing.stretches:
        for row, stop in zip(one.rows, one.stop, strict=True):
            sound = torch.from_numpy(SOUNDS[one.story][None, one.first : one.first + stop])
            with torch.no_grad():
                hidden = encoder.model(sound).last_hidden_state[0]
            ends = np.arange(len(hidden)) * 320 + 400
            newest = hidden[torch.from_numpy(ends > stop - RATE_HZ)].mean(0)
            np.testing.assert_allclose(features[row, -1], newest, atol=1e-5)


@pytest.mark.parametrize(
    "unfrozen",
    [{"conv": None}, {"projection": None}, {"attention": None}, {"feed_forward": (1, 2)}, {"bias": (2, 2)}],
    ids=str,
)
@pytest.mark.parametrize("family", ["base", "large"])
def test_from_the_store_or_not_features_are_the_same(family: str, unfrozen: dict, tmp_path: Path) -> None:
    folder = save_small_wav2vec2(tmp_path / "encoder", family, do_normalize=family == "base")
    encoder = load_encoder(str(folder))
    boundary = boundary_of(encoder, unfrozen_names(encoder, unfrozen))
    whole = stretched(encoder, tmp_path / "whole", boundary=Boundary("audio"))
    stored = stretched(encoder, tmp_path / "stored", boundary=boundary)
    wanted = whole.all_pooled(encoder.model)
    for _ in ("computed", "found"):
        np.testing.assert_allclose(stored.all_pooled(encoder.model), wanted, atol=1e-5)
        np.testing.assert_allclose(stored.frozen_pooled, wanted, atol=1e-5)
    rows = np.array([0, 3, 17, 18, 2])
    pieces = [stored.pooled(encoder.model, stored.below(part), part) for part in stored.together(rows)]
    np.testing.assert_allclose(torch.cat(pieces).detach(), wanted[rows], atol=1e-5)


@pytest.mark.parametrize("noise", ["white", "ar"])
def test_refinement_runs_on_stretches_and_is_scored_on_them(noise: str, tmp_path: Path) -> None:
    some = material(small(tmp_path / "encoder"), tmp_path / "store")
    options = configuration(
        {"attention": None}, context="stretch", stretch_s=9.0, noise=noise, head_l2=100.0, encoder_lr=3e-3
    )
    reports, refined = run(some, options)
    again, _ = run(some, options)
    assert [report.score for report in reports] == [report.score for report in again]
    assert len({report.score for report in reports}) == 3
    alone, _ = run(some, options.model_copy(update={"context": "window"}))
    assert alone[0].score != reports[0].score
    assert np.isfinite(refined.score)


def test_a_stretch_is_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hearing = stretched(
        small(tmp_path / "encoder"), tmp_path / "store", seconds=SECONDS, boundary=Boundary("audio")
    )
    passes: list[int] = []
    layer = type(hearing.encoder.model.encoder.layers[0])
    monkeypatch.setattr(layer, "forward", counting(layer.forward, passes))
    hearing.all_pooled(hearing.encoder.model)
    frames = sum(passes) / hearing.encoder.layers
    alone = len(hearing.windows) * hearing.encoder.frames(HISTORY * RATE_HZ)
    assert len(passes) == hearing.encoder.layers * len(hearing.stretches)
    assert frames < alone / 1.5


def counting(forward: object, passes: list[int]) -> object:
    def counted(self: object, hidden: torch.Tensor, *more: object, **named: object) -> object:
        passes.append(hidden.shape[1])
        return forward(self, hidden, *more, **named)

    return counted


def test_an_encoder_that_takes_no_mask_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder(str(save_small(tmp_path / "encoder", "wavlm-base")))
    with pytest.raises(EncoderError, match="a WavLM, takes none; set context: window"):
        run(material(encoder, tmp_path / "store"), configuration({}, context="stretch"))


def test_a_stretch_is_heard_once_in_a_step_however_small_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(save_small_wav2vec2(tmp_path / "encoder", "large", do_normalize=False)))
    options = configuration({"attention": (1, 2)}, context="stretch", stretch_s=12.0, batch=2, epochs=1)
    some, trained = material(encoder, tmp_path / "store"), []
    plain = StretchedHearing.pooled

    def pooled(self: StretchedHearing, *given: object) -> torch.Tensor:
        if torch.is_grad_enabled():
            trained.append(self)
        return plain(self, *given)

    monkeypatch.setattr(StretchedHearing, "pooled", pooled)
    run(some, options)
    stretches = len(trained[0].stretches)
    assert len(trained[0].windows) > 2 * stretches
    assert len(trained) == stretches

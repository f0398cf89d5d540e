"""What is unfrozen trains, all else stays as it is, and adapters end as part of the weights."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_encoders import LAYERS, output_above, published, save_small
from transformers import Wav2Vec2FeatureExtractor

from wav2bold.config import Configuration, Lora
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Boundary, Encoder, load_encoder, prefix, save_encoder, suffix
from wav2bold.trainables.families import SpeechModel, convolved
from wav2bold.trainables.parameter_types import parameter_type, unfrozen_names
from wav2bold.trainables.reading import states_read
from wav2bold.trainables.unfreezing import Unfrozen, lowest_boundary, merged, unfreeze

KINDS = ("wav2vec2-base", "wav2vec2-large", "hubert-base", "wavlm-base", "wavlm-large", "data2vec-base")
SOUND = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(
        str(save_small(tmp_path_factory.mktemp("encoder"), request.param, do_normalize=False))
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("small"), "wav2vec2-base")))


def adapted(**lora: object) -> Configuration:
    return Configuration(lora=Lora(rank=2, **lora))


def below(encoder: Encoder, boundary: Boundary) -> torch.Tensor:
    with torch.no_grad():
        return SOUND if boundary.at == "audio" else prefix(encoder, boundary, convolved(encoder.model, SOUND))


def trained(encoder: Encoder, unfrozen: Unfrozen, steps: int = 4) -> SpeechModel:
    """The copy after a few large steps away from what the encoder says."""
    stored = below(encoder, unfrozen.boundary)
    target = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(1))
    parameters = [parameter for parameter in unfrozen.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        (output_above(encoder, unfrozen.model, unfrozen.boundary, stored) - target).square().mean().backward()
        optimiser.step()
    return unfrozen.model


def moved(encoder: Encoder, model: SpeechModel) -> set[str]:
    """Names of the parameters in which a plain model differs from the pretrained one by a bit or more."""
    before = dict(encoder.model.named_parameters())
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def matrices(encoder: Encoder, kinds: tuple[str, ...], layers: tuple[int, ...]) -> set[str]:
    """Names of the weights that LoRA is for: those of the six linear modules of wav2vec2's layers."""
    return {
        name
        for name, _ in encoder.model.named_parameters()
        if name.endswith((".weight",)) and "gru" not in name and "embed" not in name
        for kind, layer in [parameter_type(name)]
        if kind in kinds and layer in layers
    }


# Whole parameters


def test_types_are_unfrozen_in_a_copy_and_nothing_else(encoder: Encoder) -> None:
    configuration = Configuration(unfrozen={"attention": (1, 2), "layer_norm": None})
    unfrozen = unfreeze(encoder, configuration)
    assert list(unfrozen.names) == unfrozen_names(encoder, configuration.unfrozen)
    assert moved(encoder, trained(encoder, unfrozen)) == set(unfrozen.names)
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert unfrozen.boundary == Boundary("conv")  # the projection's own norm lies below the layers


def test_nothing_unfrozen_leaves_nothing_to_train(small: Encoder) -> None:
    unfrozen = unfreeze(small, Configuration(unfrozen={}))
    assert unfrozen.names == ()
    assert unfrozen.boundary == Boundary("layer", LAYERS)
    assert not any(parameter.requires_grad for parameter in unfrozen.model.parameters())


# Adapters


@pytest.mark.parametrize(
    ("lora", "kinds", "layers"),
    [
        ({}, ("attention", "feed_forward"), (0, 1, 2)),
        ({"targets": ("attention",), "layers": (1, 2)}, ("attention",), (1, 2)),
        ({"targets": ("feed_forward",), "layers": (2, 2)}, ("feed_forward",), (2,)),
    ],
    ids=["all", "attention of two layers", "feed-forward of the last"],
)
def test_adapters_train_and_what_they_are_not_for_stays_bit_by_bit(
    encoder: Encoder, lora: dict[str, object], kinds: tuple[str, ...], layers: tuple[int, ...]
) -> None:
    unfrozen = unfreeze(encoder, adapted(**lora))
    assert len(unfrozen.names) == 2 * len(matrices(encoder, kinds, layers))
    assert all(".lora_" in name for name in unfrozen.names)
    assert unfrozen.boundary == Boundary("layer", layers[0])
    untouched = copy.deepcopy(unfrozen.model)
    model = trained(encoder, unfrozen)
    for (name, after), before in zip(model.named_parameters(), untouched.parameters(), strict=True):
        assert torch.equal(after, before) == (name not in unfrozen.names), name
    assert moved(encoder, merged(model)) == matrices(encoder, kinds, layers)


def test_adapters_say_nothing_before_they_are_trained(encoder: Encoder) -> None:
    unfrozen = unfreeze(encoder, adapted())
    stored = below(encoder, unfrozen.boundary)
    with torch.no_grad():
        before = output_above(encoder, encoder.model, unfrozen.boundary, stored)
        after = output_above(encoder, unfrozen.model, unfrozen.boundary, stored)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert moved(encoder, merged(unfrozen.model)) == set()


def test_folded_adapters_hear_as_the_adapters_did(encoder: Encoder) -> None:
    unfrozen = unfreeze(encoder, adapted())
    stored = below(encoder, unfrozen.boundary)
    model = trained(encoder, unfrozen)
    plain = merged(model)
    with torch.no_grad():
        before = output_above(encoder, encoder.model, unfrozen.boundary, stored)
        with_adapters = output_above(encoder, model, unfrozen.boundary, stored)
        folded = output_above(encoder, plain, unfrozen.boundary, stored)
        own = plain(SOUND).last_hidden_state
    assert (with_adapters - before).abs().max() > 0.1
    torch.testing.assert_close(folded, with_adapters, atol=1e-5, rtol=0)
    torch.testing.assert_close(own, with_adapters, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rank", "alpha"), [(1, 16), (3, 1)])
def test_a_matrix_changes_by_alpha_over_rank_times_a_product_of_that_rank(
    encoder: Encoder, rank: int, alpha: int
) -> None:
    unfrozen = unfreeze(encoder, Configuration(lora=Lora(rank=rank, alpha=alpha)))
    model = trained(encoder, unfrozen)
    factors = dict(model.named_parameters())
    before, after = dict(encoder.model.named_parameters()), dict(merged(model).named_parameters())
    for name in matrices(encoder, ("attention", "feed_forward"), (0, 1, 2)):
        place = name.removesuffix(".weight")
        first, second = (factors[f"{place}.lora_{one}.default.weight"] for one in "AB")
        change = (after[name] - before[name]).detach()
        torch.testing.assert_close(change, alpha / rank * (second @ first).detach(), atol=1e-5, rtol=0)
        assert torch.linalg.matrix_rank(change, atol=1e-5) <= rank, name
        assert torch.linalg.matrix_rank(change, atol=1e-5) > 0, name


def test_adapters_and_whole_types_train_together(encoder: Encoder) -> None:
    configuration = Configuration(
        unfrozen={"bias": (1, 1), "attention": (2, 2)}, lora=Lora(rank=2, layers=(1, 1))
    )
    unfrozen = unfreeze(encoder, configuration)
    assert unfrozen.boundary == Boundary("layer", 1)
    whole = set(unfrozen_names(encoder, configuration.unfrozen))
    both = matrices(encoder, ("attention", "feed_forward"), (1,))
    assert not whole & both
    assert moved(encoder, merged(trained(encoder, unfrozen))) == whole | both


def test_the_boundary_is_the_lower_of_both() -> None:
    encoder = Encoder("published", published("microsoft/wavlm-base"), Wav2Vec2FeatureExtractor(), "")
    for unfrozen, layers, boundary in [
        ({}, (9, 11), "layer9"),
        ({"attention": (3, 4)}, (9, 11), "layer3"),
        ({"bias": (10, 11)}, (9, 11), "layer9"),
        ({"projection": None}, (9, 11), "conv"),
        ({"conv": None}, None, "audio"),
    ]:
        lora = Lora(layers=layers)
        assert str(lowest_boundary(encoder, Configuration(unfrozen=unfrozen, lora=lora))) == boundary


def test_a_copy_of_an_adapted_model_hears_adapters_of_its_own(encoder: Encoder) -> None:
    model = trained(encoder, unfreeze(encoder, adapted()))
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(SOUND).last_hidden_state
        assert torch.equal(other(SOUND).last_hidden_state, before)
        for name, parameter in other.named_parameters():
            if "lora_B" in name:
                parameter.mul_(3)
        assert torch.equal(model(SOUND).last_hidden_state, before)
        assert (other(SOUND).last_hidden_state - before).abs().max() > 0.1


def test_the_seed_draws_the_adapters_and_no_other_draw_is_disturbed(small: Encoder) -> None:
    def factors(seed: int) -> list[torch.Tensor]:
        model = unfreeze(small, adapted(), seed).model
        return [parameter for name, parameter in model.named_parameters() if "lora_A" in name]

    torch.manual_seed(5)
    alone = torch.rand(3)
    torch.manual_seed(5)
    one = factors(0)
    assert torch.equal(torch.rand(3), alone)
    assert all(torch.equal(a, b) for a, b in zip(one, factors(0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, factors(1), strict=True))


# Folded


def test_without_adapters_a_merged_model_is_a_copy_that_training_does_not_reach(small: Encoder) -> None:
    unfrozen = unfreeze(small, Configuration(unfrozen={"attention": None}))
    kept = merged(unfrozen.model)
    trained(small, unfrozen)
    assert moved(small, kept) == set()


def test_folding_leaves_the_adapted_model_as_it_was(encoder: Encoder) -> None:
    model = trained(encoder, unfreeze(encoder, adapted()))
    before = {name: value.clone() for name, value in model.named_parameters()}
    merged(model)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with torch.no_grad():  # and it still hears its adapters
        hidden = below(encoder, Boundary("layer", 0))
        own = output_above(encoder, encoder.model, Boundary("layer", 0), hidden)
        assert (output_above(encoder, model, Boundary("layer", 0), hidden) - own).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["wav2vec2-base", "wavlm-base"])
def test_a_folded_encoder_is_saved_as_the_pretrained_was_and_loads_without_peft(
    kind: str, tmp_path: Path
) -> None:
    encoder = load_encoder(str(save_small(tmp_path / "pretrained", kind, do_normalize=False)))
    plain = merged(trained(encoder, unfreeze(encoder, adapted())))
    save_encoder(tmp_path / "refined", plain, encoder.extractor)
    files = sorted(path.name for path in (tmp_path / "refined").iterdir())
    assert files == sorted(path.name for path in Path(encoder.name).iterdir())
    code = (
        "import sys, torch; sys.modules['peft'] = None\n"  # its import raises
        "from transformers import AutoModel\n"
        f"model, found = AutoModel.from_pretrained({str(tmp_path / 'refined')!r}, output_loading_info=True)\n"
        "assert not found['missing_keys'] and not found['unexpected_keys'], found\n"
        f"torch.save(model.state_dict(), {str(tmp_path / 'weights.pt')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded, ours = torch.load(tmp_path / "weights.pt"), plain.state_dict()
    assert loaded.keys() == ours.keys() == encoder.model.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in ours.items())
    assert load_encoder(str(tmp_path / "refined")).digest != encoder.digest


# Mistakes


def test_layers_that_the_encoder_lacks_are_refused(small: Encoder) -> None:
    with pytest.raises(EncoderError) as raised:
        lowest_boundary(small, adapted(layers=(1, 3)))
    assert str(raised.value) == f"lora.layers: there is no layer 3 in {small.name}; its last layer is 2"


def test_a_rank_that_no_matrix_can_have_is_refused(small: Encoder) -> None:
    assert lowest_boundary(small, Configuration(lora=Lora(rank=16))) == Boundary("layer", 0)
    named = replace(small, name="small")
    with pytest.raises(EncoderError) as raised:
        unfreeze(named, Configuration(lora=Lora(rank=17)))
    assert str(raised.value) == (
        "lora.rank: encoder.layers.0.attention.k_proj of small has no rank of 17; "
        "give 16 or less; a few are usual"
    )


# What the head doesn't read


@pytest.mark.parametrize(
    ("options", "boundary", "trained_layers"),
    [
        ({"layers": 2}, "layer0", {0, 1}),
        ({"layers": [0, 2], "unfrozen": {"feed_forward": (1, 1)}}, "layer1", {1}),
        ({"layers": 1, "unfrozen": {}}, "layer1", set()),
        ({"layers": 0, "unfrozen": {}}, "layer0", set()),
        ({"layers": 2, "unfrozen": {"layer_norm": None}}, "conv", {0, 1}),
        ({"layers": 0, "unfrozen": {"positional": None}}, "conv", set()),
        ({"layers": 2, "lora": {"rank": 2}}, "layer0", {0, 1}),
        ({"layers": [1, 2], "lora": {"rank": 2, "layers": (1, 1)}}, "layer1", {1}),
        ({"layers": "weighted", "unfrozen": {"attention": (2, 2)}}, "layer2", {2}),
    ],
    ids=str,
)
def test_only_what_the_head_reads_is_trained_and_the_boundary_is_not_above_it(
    encoder: Encoder, options: dict[str, object], boundary: str, trained_layers: set[int]
) -> None:
    configuration = Configuration(**options)
    unfrozen = unfreeze(encoder, configuration)
    assert str(unfrozen.boundary) == str(lowest_boundary(encoder, configuration)) == boundary
    plain = [name.replace(".base_layer", "") for name in unfrozen.names if "lora_" not in name]
    if configuration.lora is None:
        assert {parameter_type(name)[1] for name in plain} - {None} == trained_layers
    else:
        assert {int(name.split(".")[2]) for name in unfrozen.names} == trained_layers
    top = states_read(encoder, configuration.layers)[-1]
    states = suffix(encoder, unfrozen.model, Boundary("audio"), SOUND, (top,))
    if unfrozen.names:  # the last of them that is read depends on each of them
        torch.square(states[0] - 1).sum().backward()
    for name, parameter in unfrozen.model.named_parameters():
        assert (parameter.grad is not None) == (name in unfrozen.names), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"layers": 1, "unfrozen": {"attention": (0, 1)}},
            "unfrozen.attention: layer 1 lies above hidden state 1, the highest that the head reads; end at ",
        ),
        (
            {"layers": [0, 1], "unfrozen": {"bias": (2, 2)}},
            "unfrozen.bias: lies above hidden state 1, the highest that the head reads; leave it out, or let",
        ),
        ({"layers": 0}, "unfrozen.attention: lies above hidden state 0, the highest that the head reads; "),
        ({"layers": 0, "lora": {}}, "lora.layers: lies above hidden state 0, the highest"),
        ({"layers": 2, "lora": {"layers": (1, 2)}}, "lora.layers: layer 2 lies above hidden state 2, the"),
        ({"layers": [1, 4]}, "layers: there is no hidden state 4 in small; its last is 3"),
    ],
    ids=str,
)
def test_what_could_change_nothing_that_is_read_is_refused(
    small: Encoder, options: dict[str, object], said: str
) -> None:
    with pytest.raises(EncoderError) as raised:
        lowest_boundary(replace(small, name="small"), Configuration(**options))
    assert str(raised.value).startswith(said)

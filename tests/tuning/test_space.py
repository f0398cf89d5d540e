"""What a sweep proposes lies in its space, and the first trial is the study's own configuration."""

import pickle
from pathlib import Path

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from listeners import save_small_wav2vec2
from pydantic import ValidationError

from wav2bold.config import PARAMETER_TYPES, Configuration, IntRange, LogRange, Lora, Search, Space, Study
from wav2bold.errors import EncoderError, StudyError
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.space import LAYERED, Proposals

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"))))


Ranges = st.tuples(st.integers(0, 2), st.integers(0, 2)).map(lambda pair: tuple(sorted(pair)))
States = (
    st.none() | st.just("weighted") | st.integers(0, 6) | st.sets(st.integers(0, 6), min_size=1).map(list)
)
Types = st.sampled_from(PARAMETER_TYPES)
Adapted = st.sampled_from([("attention",), ("feed_forward",)])


def study(own: Configuration | None = None, **space: object) -> Study:
    return Study(
        name="listeners",
        shards=Path("shards"),
        encoder="encoder",
        split={"validation": ("library",), "test": ("lighthouse",)},
        configuration=own or Configuration(),
        search=Search(space=Space(**space)),
    )


def proposed(of: Study, depth: int, seed: int, trials: int) -> list[tuple[Configuration, optuna.Trial]]:
    """Configurations that a random sampler draws, and Optuna's own record of each."""
    search = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed))
    proposals = Proposals(of, depth, ("sub-001",))
    search.enqueue_trial(proposals.first_point())
    found = []
    for number in range(trials):
        trial = search.ask()
        task = proposals.task(number, trial)["task"]
        assert task["number"] == number
        assert task["subjects"] == ["sub-001"]
        found.append((Configuration.model_validate(task["configuration"]), trial))
        search.tell(trial, 0.0)
    return found


@pytest.mark.parametrize(
    "own",
    [
        Configuration(),
        Configuration(history=30, head_l2=100.0, encoder_lr=0.5, unfrozen={"conv": None}),
        Configuration(unfrozen={}),
        Configuration(unfrozen={"attention": (1, 2)}),
        Configuration(lora=Lora(rank=4), unfrozen={"bias": None}),
        Configuration(objective="pretrain", unfrozen={"bias": None}),
    ],
    ids=["paper's", "outside the space", "head alone", "some layers", "adapters", "the control"],
)
def test_the_first_trial_is_the_studys_own_configuration_to_the_digit(own: Configuration) -> None:
    ((first, _),) = proposed(study(own), 3, 0, 1)
    assert first == own


def test_the_enqueued_point_lies_in_the_space_so_that_the_sampler_takes_it() -> None:
    of = study(Configuration(history=30, head_l2=100.0, encoder_lr=0.5))
    ((_, trial),) = proposed(of, 4, 0, 1)
    assert trial.params["history"] == of.search.space.history.high
    assert trial.params["head_l2"] == of.search.space.head_l2.high
    assert trial.params["encoder_lr"] == of.encoder_rates.high
    assert trial.params["head_lr"] == of.configuration.head_lr
    assert (trial.params["first_layer"], trial.params["layer_span"]) == (0, 4)


@settings(max_examples=40, deadline=None)
@given(layers=st.integers(1, 24), seed=st.integers(0, 2**31 - 1))
def test_every_proposal_lies_in_the_space_and_in_the_encoder(layers: int, seed: int) -> None:
    of = study(unfrozen=("conv", "attention", "bias"))
    space = of.search.space
    for chosen, _ in proposed(of, layers, seed, 12)[1:]:
        assert space.history.low <= chosen.history <= space.history.high
        assert space.head_l2.low <= chosen.head_l2 <= space.head_l2.high
        assert set(chosen.unfrozen) <= set(space.unfrozen)
        if chosen.unfrozen:
            assert of.encoder_rates.low <= chosen.encoder_lr <= of.encoder_rates.high
            assert space.head_lr.low <= chosen.head_lr <= space.head_lr.high
        for kind, span in chosen.unfrozen.items():
            assert kind in LAYERED or span is None
            assert span is None or 0 <= span[0] <= span[1] < layers
            assert span != (0, layers - 1)  # all layers are said in one way only


def test_what_a_branch_lacks_is_not_asked_for() -> None:
    """No rates where nothing is unfrozen, no layers where nothing unfrozen has any."""
    found = proposed(study(unfrozen=("conv", "attention")), 12, 0, 80)[1:]
    heads = [trial.params for chosen, trial in found if not chosen.unfrozen]
    convolutions = [trial.params for chosen, trial in found if set(chosen.unfrozen) == {"conv"}]
    assert heads
    assert convolutions
    assert all(not {"encoder_lr", "head_lr", "first_layer"} & params.keys() for params in heads)
    assert all({"encoder_lr", "head_lr"} <= params.keys() for params in convolutions)
    assert all("first_layer" not in params for params in convolutions)


def test_rates_are_those_of_the_optimiser_unless_the_study_says_others() -> None:
    assert study().encoder_rates == LogRange(low=1e-5, high=1e-3)
    muon = Configuration(optimiser="muon", encoder_lr=0.02)
    assert study(muon).encoder_rates == LogRange(low=0.005, high=0.05)
    own = LogRange(low=0.1, high=0.2)
    assert study(muon, encoder_lr=own).encoder_rates == own


def test_what_is_adapted_is_never_unfrozen_as_well() -> None:
    """And its learning rate is asked for, also where nothing is unfrozen beside the adapters."""
    lora = Lora(rank=4, targets=("attention",), layers=(0, 5))
    found = proposed(study(Configuration(lora=lora)), 12, 0, 60)[1:]
    assert {kind for chosen, _ in found for kind in chosen.unfrozen} == {"feed_forward", "layer_norm"}
    assert {} in [chosen.unfrozen for chosen, _ in found]
    for chosen, trial in found:
        assert chosen.lora == lora
        assert chosen.encoder_lr == trial.params["encoder_lr"]


def test_equal_ends_fix_a_value_and_the_rest_is_the_studys() -> None:
    own = Configuration(history=5, batch=3, weight_decay=0.25, epochs=9)
    of = study(own, history=IntRange(low=5, high=5), head_l2=LogRange(low=2.0, high=2.0))
    for chosen, _ in proposed(of, 2, 1, 10)[1:]:
        assert (chosen.history, chosen.head_l2) == (5, 2.0)
        assert (chosen.batch, chosen.weight_decay, chosen.epochs) == (3, 0.25, 9)


def test_where_the_head_reads_no_layers_output_no_type_within_layers_is_proposed() -> None:
    own = Configuration(layers=0, unfrozen={"positional": None})
    found = proposed(study(own, unfrozen=("attention", "positional")), 3, seed=0, trials=20)
    assert {kind for chosen, _ in found for kind in chosen.unfrozen} == {"positional"}


def test_what_a_space_does_not_name_is_not_varied() -> None:
    own = Configuration(pooling="last", layers=[2, 3], anchor_l2=0.5, lora=Lora(rank=3), epochs=4)
    fixed = ("pooling", "layers", "anchor_l2", "weight_decay", "lora", "epochs")
    for chosen, trial in proposed(study(own), 4, 0, 20):
        assert all(getattr(chosen, name) == getattr(own, name) for name in fixed)
        assert not set(fixed) & trial.params.keys()


def test_a_space_takes_each_dimension_that_it_names() -> None:
    of = study(
        Configuration(lora=Lora(rank=4, alpha=8, targets=("feed_forward",))),
        pooling=["tr", "lanczos"],
        layers=[2, [1, 3], "weighted", None],
        unfrozen=["attention", "bias"],
        ranges="each",
        lora_rank={"low": 2, "high": 16},
        anchor_l2={"low": 0.1, "high": 1},
        weight_decay={"low": 0.01, "high": 0.1},
        epochs={"low": 2, "high": 9},
    )
    found = [chosen for chosen, _ in proposed(of, 4, 0, 200)[1:]]
    assert {chosen.pooling for chosen in found} == {"tr", "lanczos"}
    assert {chosen.layers for chosen in found} == {(2,), (1, 3), "weighted", None}
    assert {chosen.epochs for chosen in found} == set(range(2, 10))
    assert {chosen.lora.rank for chosen in found if chosen.lora} == set(range(2, 17))
    assert {chosen.lora.alpha / chosen.lora.rank for chosen in found if chosen.lora} == {2.0}
    assert all(0.1 <= chosen.anchor_l2 <= 1 and 0.01 <= chosen.weight_decay <= 0.1 for chosen in found)
    pairs = {
        (chosen.unfrozen["attention"], chosen.unfrozen["bias"])
        for chosen in found
        if len(chosen.unfrozen) == 2
    }
    assert any(one != other for one, other in pairs)


@settings(max_examples=60, deadline=None)
@given(
    own=st.fixed_dictionaries(
        {"layers": States, "unfrozen": st.dictionaries(Types, st.none() | Ranges)},
        optional={"lora": st.builds(Lora, targets=Adapted, layers=st.none() | Ranges)},
    ),
    space=st.fixed_dictionaries(
        {},
        optional={
            "unfrozen": st.none() | st.sets(Types).map(sorted),
            "layers": st.lists(States, min_size=1, max_size=3, unique_by=str),
            "pooling": st.just(["tr", "mean"]),
            "ranges": st.sampled_from(["shared", "each", "own"]),
            "first_layer": st.builds(IntRange, low=st.integers(0, 2), high=st.integers(2, 30)),
            "layer_span": st.builds(IntRange, low=st.integers(1, 3), high=st.integers(3, 30)),
        },
    ),
    seed=st.integers(0, 2**31 - 1),
)
def test_no_proposal_is_one_that_a_refinement_refuses(
    encoder: Encoder, own: dict[str, object], space: dict[str, object], seed: int
) -> None:
    """Whatever the study's own configuration and space: as long as the encoder can do the former."""
    try:
        of = study(Configuration(**own), **space)
        lowest_boundary(encoder, of.configuration)
        Proposals(of, encoder.layers, ()).refuse_impossible()
    except (ValidationError, EncoderError, StudyError):
        assume(False)
    for chosen, _ in proposed(of, encoder.layers, seed, 8):
        lowest_boundary(encoder, chosen)


def test_trained_types_are_the_studys_own_where_the_space_says_so() -> None:
    own = Configuration(unfrozen={"conv": None, "attention": (1, 2)})
    found = [chosen.unfrozen for chosen, _ in proposed(study(own, unfrozen=None, ranges="own"), 4, 0, 10)]
    assert all(unfrozen == own.unfrozen for unfrozen in found)
    found = [chosen.unfrozen for chosen, _ in proposed(study(own, unfrozen=None), 4, 0, 30)]
    assert all(unfrozen.keys() == own.unfrozen.keys() for unfrozen in found)
    assert len({unfrozen["attention"] for unfrozen in found}) > 3


def test_a_range_of_layers_can_be_narrowed() -> None:
    of = study(first_layer={"low": 8, "high": 9}, layer_span={"low": 2, "high": 2})
    found = proposed(of, 12, 0, 40)[1:]
    assert {span for chosen, _ in found for span in chosen.unfrozen.values()} == {(8, 9), (9, 10)}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"layers": [3, 5]}, "search.space.layers: there is no hidden state 5; the last is 4"),
        (
            {"first_layer": {"low": 4, "high": 9}},
            "search.space.first_layer: there is no layer 4; the last is 3",
        ),
    ],
)
def test_a_space_above_the_encoder_is_refused(space: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError) as raised:
        Proposals(study(**space), 4, ()).refuse_impossible()
    assert str(raised.value) == said


def test_a_configuration_of_the_space_is_known_by_its_point() -> None:
    """Proposed once more from the point that it is found at, it is the same; Optuna accepts that point."""
    of = study(layers=[2, "weighted"], pooling=["tr", "last"], ranges="each", epochs={"low": 1, "high": 9})
    proposals = Proposals(of, 4, ())
    for chosen, _ in proposed(of, 4, 0, 40)[1:]:
        known = proposals.known(chosen)
        assert known is not None
        frozen = optuna.trial.create_trial(value=0.0, params=known.params, distributions=known.distributions)
        assert proposals.configuration(frozen) == chosen


@pytest.mark.parametrize(
    "outside",
    [
        {"history": 11},
        {"head_l2": 5.0},
        {"batch": 9},
        {"unfrozen": {"conv": None}},
        {"unfrozen": {"attention": (0, 1), "feed_forward": None}},
        {"encoder_lr": 0.1},
        {"pooling": "last"},
        {"lora": Lora()},
    ],
)
def test_a_configuration_outside_the_space_is_not_known(outside: dict[str, object]) -> None:
    proposals = Proposals(study(), 4, ())
    assert proposals.known(Configuration()) is not None
    assert proposals.known(Configuration(**outside)) is None


@pytest.mark.parametrize(
    ("own", "space", "conditional"),
    [
        (
            {},
            {"unfrozen": ["conv", "attention"]},
            {"encoder_lr", "head_lr", "first_layer", "layer_span"},
        ),
        ({}, {"unfrozen": None}, set()),
        ({}, {"unfrozen": []}, set()),
        ({"lora": Lora()}, {"unfrozen": []}, set()),
        ({"lora": Lora()}, {"unfrozen": ["conv"]}, set()),
        ({"lora": Lora()}, {"unfrozen": ["bias"], "ranges": "each"}, {"first_bias", "span_bias"}),
        ({}, {"unfrozen": None, "layers": [0, 1]}, {"encoder_lr", "head_lr", "first_layer", "layer_span"}),
    ],
)
def test_what_is_conditional_is_what_some_trials_lack(
    own: dict[str, object], space: dict[str, object], conditional: set[str]
) -> None:
    of = study(Configuration(**own), **space)
    assert set(Proposals(of, 3, ()).conditional()) == conditional
    asked = [trial.params.keys() for _, trial in proposed(of, 3, 0, 60)]
    assert set.union(*map(set, asked)) - set.intersection(*map(set, asked)) == conditional


def test_ray_can_save_the_searcher_with_its_proposals() -> None:
    proposals = Proposals(study(), 12, ("sub-001", "sub-002"))
    assert pickle.loads(pickle.dumps(proposals)) == proposals


def test_the_control_always_has_something_to_train() -> None:
    own = Configuration(objective="pretrain", unfrozen={"bias": None})
    found = [one for one, _ in proposed(study(own, unfrozen=("attention",)), 3, 0, 20)[1:]]
    assert {frozenset(one.unfrozen) for one in found} == {frozenset({"attention"}), frozenset({"bias"})}
    assert len({one.encoder_lr for one in found}) == len(found)

"""What a sweep proposes lies in its space, and the first trial is the study's own configuration."""

import pickle
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2bold.config import Configuration, IntRange, LogRange, Lora, Search, Space, Study
from wav2bold.tuning.space import LAYERED, Proposals

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study(own: Configuration | None = None, **space: object) -> Study:
    return Study(
        name="listeners",
        shards=Path("shards"),
        encoder="encoder",
        split={"validation": ("library",), "test": ("lighthouse",)},
        configuration=own or Configuration(),
        search=Search(space=Space(**space)),
    )


def proposed(of: Study, layers: int, seed: int, trials: int) -> list[tuple[Configuration, optuna.Trial]]:
    """Configurations that a random sampler draws, and Optuna's own record of each."""
    search = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed))
    proposals = Proposals(of, layers, ("sub-001",))
    search.enqueue_trial(proposals.first_point())
    found = []
    for number in range(trials):
        trial = search.ask()
        task = proposals(trial)["task"]
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


def test_ray_can_save_the_searcher_with_its_proposals() -> None:
    proposals = Proposals(study(), 12, ("sub-001", "sub-002"))
    assert pickle.loads(pickle.dumps(proposals)) == proposals


def test_where_the_head_reads_no_layers_output_no_type_within_layers_is_proposed() -> None:
    found = proposed(study(unfrozen=("attention", "positional")), 0, seed=0, trials=20)
    unfrozen = {kind for chosen, _ in found[1:] for kind in chosen.unfrozen}  # the first is the study's own
    assert unfrozen == {"positional"}


def test_the_control_always_has_something_to_train() -> None:
    own = Configuration(objective="pretrain", unfrozen={"bias": None})
    found = [one for one, _ in proposed(study(own, unfrozen=("attention",)), 3, 0, 20)[1:]]
    assert {frozenset(one.unfrozen) for one in found} == {frozenset({"attention"}), frozenset({"bias"})}
    assert len({one.encoder_lr for one in found}) == len(found)

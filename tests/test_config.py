"""The study file is read as written, and a mistake in it is one line that says what to write."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wav2bold.config import PARAMETER_TYPES, Configuration, Lora, Study
from wav2bold.errors import StudyError
from wav2bold.options import nearest, options_of

LEAST = """
name: brains
shards: shards
encoder: facebook/wav2vec2-base
split: {validation: [second], test: [third]}
"""


def load(folder: Path, more: str = "", text: str = LEAST) -> Study:
    file = folder / "study.yaml"
    file.write_text(text + more, encoding="utf-8")
    return Study.load(file)


def mistake(folder: Path, more: str = "", text: str = LEAST) -> str:
    """What is said of a study with a mistake, after the file's name."""
    with pytest.raises(StudyError) as caught:
        load(folder, more, text)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{folder / 'study.yaml'}: ")
    return said.removeprefix(f"{folder / 'study.yaml'}: ")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("seeds: 4", "seeds: no such option; did you mean seed?"),
        (
            "configuration: {encodr_lr: 1}",
            "configuration.encodr_lr: no such option; did you mean encoder_lr?",
        ),
        (
            "search: {space: {histroy: {low: 1}}}",
            "search.space.histroy: no such option; did you mean history?",
        ),
        ("search: {tirals: 3}", "search.tirals: no such option; did you mean trials?"),
    ],
)
def test_an_unknown_option_names_the_nearest(tmp_path: Path, more: str, said: str) -> None:
    assert mistake(tmp_path, more).startswith(said)


def test_an_option_like_no_other_names_all(tmp_path: Path) -> None:
    said = mistake(tmp_path, "zzz: 1")
    assert said.startswith("zzz: no such option; known here: ")
    assert all(option in said for option in Study.model_fields)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("configuration: {history: 41}", "history: 41 is out of range; the nearest valid value is 40"),
        ("configuration: {history: 0}", "history: 0 is out of range; the nearest valid value is 1"),
        ("configuration: {history: 6.8}", "history: 6.8 is no whole number; the nearest valid value is 7"),
        ("configuration: {encoder_lr: 3}", "encoder_lr: 3 is out of range; the nearest valid value is 1"),
        ("configuration: {encoder_lr: 0}", "encoder_lr: 0 is out of range; it must be above 0"),
        ("search: {trials: 0}", "trials: 0 is out of range; the nearest valid value is 1"),
        ("seed: -1", "seed: -1 is out of range; the nearest valid value is 0"),
        ("cleaning: {dtype: float8}", "float8 is none of float16, float32; did you mean"),
        ("configuration: {stage1: adamw}", "adamw is none of ridge, adam; did you mean adam?"),
        ("configuration: {pooling: lanczo}", "lanczo is none of tr, mean, last, lanczos; did you mean"),
        ("configuration: {head: shard}", "shard is none of linear, conv_linear, shared; did"),
        (
            "configuration: {head: shared, stage1: adam, noise: white}",
            "adam fits each subject's own head",
        ),
        (
            "configuration: {head: conv_linear, pooling: last}",
            "head: conv_linear goes over TRs, of which pooling: last leaves one; set pooling: tr or lanczos",
        ),
        ("configuration: {conv_kernel: 0}", "conv_kernel: 0 is out of range; the nearest valid value is 1"),
        ("configuration: {head_rank: 0}", "head_rank: 0 is out of range; the nearest valid value is 1"),
        ("configuration: {layers: -1}", "layers: -1 is out of range; the nearest valid value is 0"),
        ("configuration: {layers: [3, 5, 3]}", "layers: 3 is named twice; name it once"),
        ("configuration: {layers: []}", "layers: empty; name at least one, or write null"),
        ("configuration: {layers: weigthed}", "layers: weigthed is no hidden state; write a number, a list"),
        ("configuration: {layers: [1.5]}", "layers: 1.5 is no hidden state; write a number, a list"),
        ("configuration: {layers: yes}", "layers: True is no hidden state; write a number, a list"),
        ("configuration: {unfrozen: {atention: null}}", "did you mean attention?"),
        ("configuration: {unfrozen: {attention: [3, 1]}}", "layers 3 to 1 run backwards; write [1, 3]"),
        ("configuration: {unfrozen: {attention: [3]}}", "too short; write [first, last]"),
        ("configuration: {unfrozen: {attention: 3}}", "3 is no list; write [first, last]"),
        ("configuration: {lora: {rank: 0}}", "lora.rank: 0 is out of range; the nearest valid value is 1"),
        ("configuration: {lora: {alpha: 0}}", "lora.alpha: 0 is out of range; the nearest valid value is 1"),
        ("configuration: {lora: {rnak: 4}}", "configuration.lora.rnak: no such option; did you mean rank?"),
        ("configuration: {lora: {targets: [atention]}}", "did you mean attention?"),
        ("configuration: {lora: {targets: [bias]}}", "bias is none of attention, feed_forward"),
        ("configuration: {lora: {targets: []}}", "configuration.lora.targets: empty; name at least one"),
        (
            "configuration: {lora: {targets: [attention, attention]}}",
            "attention is named twice; name it once",
        ),
        ("configuration: {lora: {layers: [3, 1]}}", "layers 3 to 1 run backwards; write [1, 3]"),
        ("configuration: {lora: {layers: 3}}", "lora.layers: 3 is no list; write [first, last]"),
        ("configuration: {lora: {layers: [-1, 3]}}", "-1 is out of range; the nearest valid value is 0"),
        (
            "configuration: {lora: {layers: [0, 5]}, unfrozen: {bias: null, feed_forward: [5, 6]}}",
            "feed_forward is in unfrozen and in lora.targets: its matrices would be trained whole",
        ),
        ("configuration: {lora: {}, unfrozen: {attention: null}}", "attention is in unfrozen and in lora"),
        ("search: {space: {history: {low: 0, high: 50}}}", "the nearest valid range lies within 1 to 40"),
        ("search: {space: {history: {low: 5, high: 3}}}", "low 5 is above high 3; exchange them"),
        ("search: {space: {encoder_lr: {low: 1e-2, high: 1e-3}}}", "low 0.01 is above high 0.001"),
        ("search: {space: {unfrozen: [bias, bias]}}", "bias is named twice; name it once"),
        (
            "cleaning: {confounds_strategy: compcorr}",
            "is none of motion, simple, compcor; did you mean compcor?",
        ),
        (
            "cleaning: {confounds_strategy: scrubbing}",
            "scrubbing leaves volumes out, and windows of speech need a volume at every TR; take motion",
        ),
        (
            "cleaning: {confounds_strategy: simple, confounds: [trans_x, csf]}",
            "confounds (trans_x, csf) and confounds_strategy (simple) are both given; keep one",
        ),
        ("cleaning: {drop_last: -1}", "drop_last: -1 is out of range; the nearest valid value is 0"),
        ("cleaning: {compcor_components: 0}", "compcor_components: 0 is out of range"),
        ("targets: {rois: [STG, A1]}", "rois: STG, A1 are regions of no map; give targets.parcellation"),
        ("targets: {min_ceiling: 1}", "min_ceiling: 1 is out of range; it must be below 1"),
        ("targets: {parcellation: [a.gii, b.gii, c.gii]}", "targets.parcellation: "),
        ("activations: {max_gb: 0}", "activations.max_gb: 0 is out of range; it must be above 0"),
        ("activations: {dtype: bfloat61}", "is none of float32, bfloat16, float16; did you mean bfloat16?"),
        ("targets: {mask: a.nii}\ncleaning: {mask: b.nii}", "and targets.mask is a.nii; keep one"),
    ],
)
def test_a_value_out_of_range_names_a_valid_one(tmp_path: Path, more: str, said: str) -> None:
    assert said in mistake(tmp_path, more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("configuration: {history: yes}", "history: true (yes, on) is out of place"),
        ("configuration: {head_lr: off}", "head_lr: false (no, off) is out of place"),
        ("configuration: {head_l2: .inf}", "head_l2: inf is no number that can be used"),
        ("configuration: {clip: .nan}", "clip: nan is no number that can be used"),
        ("configuration: {history: six}", "history: six is no whole number"),
        ("subjects: sub-001", "subjects: sub-001 is no list; write [sub-001]"),
        ("subjects: []", "subjects: empty; name at least one"),
        ("subjects: [sub-001, sub-001]", "subjects: sub-001 is named twice"),
        ("configuration: {lora: 8}", "lora: 8 stands where options belong"),
        ("configuration: {lora: {targets: attention}}", "attention is no list; write [attention]"),
        ("configuration: {lora: {rank: 2.4}}", "rank: 2.4 is no whole number; the nearest valid value is 2"),
        ("search:", "search: empty; leave `search` out"),
        ("search: 12", "search: 12 stands where options belong"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_belongs_there(tmp_path: Path, more: str, said: str) -> None:
    assert said in mistake(tmp_path, more)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    said = mistake(tmp_path, "seeds: 4\nconfiguration: {history: 99}\nsubjects: []")
    assert all(key in said for key in ("seeds", "configuration.history", "subjects"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "search: {space: {lora_rank: {low: 2, high: 8}}}",
            "configuration.lora is null; write `lora: {}` there",
        ),
        ("search: {space: {layers: [4, [4]]}}", "layers: 4 is named twice; name it once"),
        (
            "search: {space: {pooling: [tr, lanczo]}}",
            "lanczo is none of tr, mean, last, lanczos; did you mean",
        ),
        ("search: {space: {pooling: []}}", "search.space.pooling: empty; name at least one"),
        ("search: {space: {epochs: {low: 0, high: 4}}}", "epochs: 0 to 4 is out of range"),
        ("search: {space: {history: {low: 1, high: 41}}}", "the nearest valid range lies within 1 to 40"),
        ("search: {sampler: nsga}", "nsga is none of tpe, gp, cmaes, random, nsgaii; did you mean nsgaii?"),
        ("search: {storage: optuna.db}", "search.storage: no URL of a database; write sqlite:///FILE or"),
        ("search: {sampler: nsgaii, stopping: asha}", "has two goals; set stopping: none"),
        ("search: {second_goal: drift}", "second_goal: drift is for sampler: nsgaii; tpe has one goal"),
        ("search: {sampler: nsgaii, second_goal: drif}", "search.second_goal: drif is none of trained_param"),
        ("search: {objective: {subjects: []}}", "search.objective.subjects: empty; name at least one"),
        ("search: {objective: {subjects: [a, b, a]}}", "search.objective.subjects: a is named twice"),
        ("search: {objective: {reduce: max}}", "search.objective.reduce: max is none of mean, median, min"),
        ("search: {objective: pretrain}", "search.objective: pretrain stands where options belong"),
        (
            "subjects: [a]\nsearch: {objective: {subjects: [a, b]}}",
            "search.objective.subjects: b is none of the study's subjects; add it to subjects, or leave",
        ),
        (
            "configuration: {context: stretch}\nsearch: {space: {pooling: [tr, mean]}}",
            "search.space.pooling: configuration.context: stretch reads the encoder's output by TRs; leave",
        ),
        (
            "configuration: {head: conv_linear}\nsearch: {space: {pooling: [tr, mean]}}",
            "search.space.pooling: configuration.head: conv_linear goes over TRs, of which mean",
        ),
        (
            "configuration: {context: stretch}\nsearch: {space: {layers: weighted}}",
            "search.space.layers: configuration.context: stretch",
        ),
    ],
)
def test_an_impossible_search_says_why(tmp_path: Path, more: str, said: str) -> None:
    assert said in mistake(tmp_path, more)


@pytest.mark.parametrize(
    ("subjects", "kept"),
    [("", None), ("subjects: all", None), ("subjects: a", ("a",)), ("subjects: [b, a]", ("b", "a"))],
)
def test_an_objective_names_subjects_in_their_order(
    tmp_path: Path, subjects: str, kept: tuple[str, ...] | None
) -> None:
    objective = load(tmp_path, f"search: {{objective: {{{subjects}}}}}").search.objective
    assert (objective.subjects, objective.reduce) == (kept, "mean")


def test_a_dimension_is_fixed_by_one_choice(tmp_path: Path) -> None:
    space = load(tmp_path, "search: {space: {pooling: lanczos, layers: 6, unfrozen: null}}").search.space
    assert (space.pooling, space.layers, space.unfrozen) == (("lanczos",), ((6,),), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no options"),
        ("- name", "holds no options"),
        ("name: brains\nshards: [", "not YAML at line 2"),
        ("name: brains", "shards: missing; write `shards: ...`"),
        (LEAST.replace("brains", "two words"), "other signs than letters"),
    ],
)
def test_a_file_that_is_no_study_says_why(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistake(tmp_path, text=text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.yaml: no such file; `prepare` writes"):
        Study.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("written", ["1e-5", "1.0e-5", "0.00001", "'1e-5'"])
def test_a_small_number_is_a_number_however_written(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, f"configuration: {{encoder_lr: {written}}}").configuration.encoder_lr == 1e-5


@pytest.mark.parametrize(
    "split",
    [
        "{validation: [a], test: [a]}",
        "{validation: [a], test: [b], train: [c, a]}",
        "{validation: [b], test: [a, a]}",
    ],
)
def test_a_story_in_two_splits_is_refused(tmp_path: Path, split: str) -> None:
    text = LEAST.replace("{validation: [second], test: [third]}", split)
    assert mistake(tmp_path, text=text) == "split: a would be heard in two splits; keep it in one"


def test_relative_paths_are_taken_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load(tmp_path, "results: out/here\ncleaning: {mask: mask.nii}")
    assert study.shards == tmp_path / "shards"
    assert study.results == tmp_path / "out" / "here"
    assert study.cleaning.mask == tmp_path / "mask.nii"


def test_maps_of_targets_are_relative_to_the_file(tmp_path: Path) -> None:
    one = load(tmp_path, "targets: {mask: mask.nii, parcellation: atlas.nii.gz}")
    assert one.targets.mask == tmp_path / "mask.nii"
    assert one.targets.parcellation == (tmp_path / "atlas.nii.gz",)
    two = load(tmp_path, f"targets: {{parcellation: [l.gii, {tmp_path}/far/r.gii], rois: [A1]}}")
    assert two.targets.parcellation == (tmp_path / "l.gii", tmp_path / "far" / "r.gii")
    for study in (one, two):
        study.save(tmp_path / "below" / "again.yaml")
        assert Study.load(tmp_path / "below" / "again.yaml") == study


def test_a_storage_that_is_a_file_is_relative_to_the_study(tmp_path: Path) -> None:
    for written, taken in (
        ("sqlite:///more/optuna.db", f"sqlite:///{tmp_path}/more/optuna.db"),
        ("sqlite:////far/optuna.db", "sqlite:////far/optuna.db"),
        ("postgresql://me:secret@host/db", "postgresql://me:secret@host/db"),
    ):
        study = load(tmp_path, f"search: {{storage: '{written}'}}")
        assert study.search.storage == taken
        study.save(tmp_path / "below" / "again.yaml")
        assert Study.load(tmp_path / "below" / "again.yaml") == study


def test_an_absolute_path_and_a_home_stay_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    study = load(
        tmp_path, "results: ~/results", LEAST.replace("shards: shards", f"shards: {tmp_path}/far/shards")
    )
    assert study.shards == tmp_path / "far" / "shards"
    assert study.results == tmp_path / "home" / "results"


def test_an_encoder_is_a_folder_if_there_is_one_and_a_hub_name_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path).encoder == "facebook/wav2vec2-base"
    (tmp_path / "facebook" / "wav2vec2-base").mkdir(parents=True)
    assert load(tmp_path).encoder == str(tmp_path / "facebook" / "wav2vec2-base")


def test_a_study_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        """
results: out
subjects: [sub-001, sub-002]
cleaning: {high_pass_s: null, confounds: [trans_x], mask: mask.nii, dtype: float16}
configuration: {encoder_lr: 1e-5, unfrozen: {attention: [0, 3], bias: null}}
search: {trials: 3, space: {history: {low: 6, high: 6}}}
activations: {max_gb: 1.5, dtype: bfloat16}
""",
    )
    for place in (tmp_path / "again.yaml", tmp_path / "below" / "again.yaml"):
        study.save(place, heading="Two lines\nof comment")
        assert place.read_text(encoding="utf-8").startswith("# Two lines\n# of comment\n")
        assert Study.load(place) == study


def test_a_saved_study_moves_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    load(tmp_path / "here").save(tmp_path / "here" / "study.yaml")
    (tmp_path / "here").rename(tmp_path / "there")
    assert Study.load(tmp_path / "there" / "study.yaml").shards == tmp_path / "there" / "shards"


layers = st.none() | st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: tuple(sorted(pair)))
configurations = st.builds(
    Configuration,
    history=st.integers(1, 40),
    layers=st.none()
    | st.just("weighted")
    | st.integers(0, 24)
    | st.sets(st.integers(0, 24), min_size=1).map(list),
    unfrozen=st.dictionaries(st.sampled_from(PARAMETER_TYPES), layers),
    encoder_lr=st.floats(1e-12, 1.0),
    head_l2=st.floats(1e-12, 1e12),
    epochs=st.integers(0, 1000),
) | st.builds(
    Configuration,
    unfrozen=st.dictionaries(st.sampled_from(["conv", "layer_norm", "bias"]), st.none()),
    lora=st.builds(Lora, rank=st.integers(1, 64), alpha=st.integers(1, 128), layers=layers),
)


@given(configurations)
def test_a_configuration_comes_back_from_its_yaml(configuration: Configuration) -> None:
    text = yaml.safe_dump(configuration.model_dump(mode="json"))
    again = Configuration.model_validate(yaml.safe_load(text))
    assert again == configuration
    assert again.digest == configuration.digest


def test_adam_in_stage_1_is_refused_where_noise_is_modelled() -> None:
    with pytest.raises(ValidationError, match="stage1: adam knows no model of noise; set noise: white"):
        Configuration(stage1="adam")


def test_a_digest_changes_with_every_option() -> None:
    others = [
        Configuration(history=7),
        *(Configuration(pooling=way) for way in ("mean", "last", "lanczos")),
        *(Configuration(layers=layers) for layers in ("weighted", 4, [4, 8])),
        Configuration(unfrozen={}),
        Configuration(unfrozen={"attention": (0, 1)}),
        Configuration(head_l2=2.0),
        Configuration(head_rank=8),
        Configuration(head="shared"),
        Configuration(head="conv_linear"),
        Configuration(head="conv_linear", conv_kernel=2),
        Configuration(noise="white"),
        Configuration(stage1="adam", noise="white"),
        Configuration(optimiser="muon"),
        Configuration(loss="corr"),
        Configuration(encoder_lr=1e-5),
        Configuration(batch=9),
        Configuration(lora=Lora()),
        Configuration(lora=Lora(rank=4)),
        Configuration(lora=Lora(alpha=8)),
        Configuration(lora=Lora(targets=("attention",))),
        Configuration(lora=Lora(layers=(0, 1))),
    ]
    assert len({Configuration().digest, *(other.digest for other in others)}) == 1 + len(others)


def test_a_digest_does_not_ask_for_the_order() -> None:
    one = Configuration(unfrozen={"attention": None, "bias": (0, 1)})
    other = Configuration(unfrozen={"bias": (0, 1), "attention": None})
    assert one.digest == other.digest
    assert Configuration(layers=[8, 4]).digest == Configuration(layers=(4, 8)).digest
    assert Configuration(layers=4).digest == Configuration(layers=[4]).digest
    targets = ("attention", "feed_forward")
    one, other = (Configuration(lora=Lora(targets=order)) for order in (targets, targets[::-1]))
    assert one.digest == other.digest


def test_adapters_take_the_place_of_whole_matrices_unless_types_are_named() -> None:
    assert Configuration().lora is None
    assert Configuration(lora=None).unfrozen == {"attention": None, "feed_forward": None}
    assert Configuration(lora=Lora()).unfrozen == {}
    assert Configuration(lora={}, unfrozen={"bias": None}).unfrozen == {"bias": None}
    apart = Configuration(lora={"layers": (0, 3)}, unfrozen={"attention": (4, 5)})
    assert (apart.lora, apart.unfrozen) == (Lora(layers=(0, 3)), {"attention": (4, 5)})
    assert Configuration.model_validate(apart.model_dump(mode="json")) == apart


def test_a_configuration_refines_if_it_unfreezes_or_adapts() -> None:
    assert Configuration().refines
    assert Configuration(unfrozen={}, lora={}).refines
    assert not Configuration(unfrozen={}).refines


def test_a_section_that_may_be_null_is_explained_with_its_options() -> None:
    keys = [key for key, _, _ in options_of(Study)]
    at = keys.index("configuration.lora")
    assert keys[at + 1 : at + 5] == [f"configuration.lora.{name}" for name in Lora.model_fields]
    explained = {key: (default, text) for key, default, text in options_of(Study)}
    assert explained["configuration.lora"][0] == "null"
    assert explained["configuration.lora.rank"][0] == "8"
    assert all(explained[f"configuration.lora.{name}"][1] for name in Lora.model_fields)


def test_a_configuration_file_comes_back(tmp_path: Path) -> None:
    configuration = Configuration(history=4, unfrozen={"conv": None, "attention": (2, 5)}, encoder_lr=1e-7)
    configuration.save(tmp_path / "best.yaml", heading="the best")
    assert Configuration.load(tmp_path / "best.yaml") == configuration


def test_the_nearest_of_words_unlike_each_other_is_none() -> None:
    assert nearest("histry", ["history", "batch"]) == "history"
    assert nearest("xyz", ["history", "batch"]) is None

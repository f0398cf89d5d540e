"""The study file: every option, its unit, its default, its check.

One YAML file says what is studied (`Study`), how one refinement is done (`Configuration`) and
what a sweep may vary (`Search`). Paths in it are relative to the file itself.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
    model_validator,
)

from wav2bold.errors import DataError
from wav2bold.options import Options, as_comment, read_yaml, short_digest, to_yaml, validated, write_whole
from wav2bold.places import Place, absolute, place

ParameterType = Literal["conv", "projection", "positional", "attention", "feed_forward", "layer_norm", "bias"]
StoredType = Literal["float32", "bfloat16", "float16"]
PARAMETER_TYPES: tuple[ParameterType, ...] = get_args(ParameterType)
BELOW_LAYERS: tuple[ParameterType, ...] = ("conv", "projection", "positional")
"""Types that no transformer layer has."""
AdaptedType = Literal["attention", "feed_forward"]
LossKind = Literal["mse", "corr", "cosine"]
Pooling = Literal["tr", "mean", "last", "lanczos"]
HeadKind = Literal["linear", "conv_linear", "shared"]
HiddenStates = tuple[int, ...] | Literal["weighted"] | None
LayerRange = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Sampler = Literal["tpe", "gp", "cmaes", "random", "nsgaii"]
Stopping = Literal["asha", "median", "none"]
Reduction = Literal["mean", "median", "min"]
SecondGoal = Literal["trained_parameters", "drift"]


def _named_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice; name it once")
    return names


def _place(given: Any) -> Place:
    if given is None or isinstance(given, dict | list | int | float):
        raise ValueError(f"{given} is neither a folder nor a URL")
    try:
        return place(given)
    except DataError as error:
        raise ValueError(str(error)) from None


class Cleaning(Options):
    """How BOLD is cleaned before it is written to shards (as by nilearn.signal.clean)."""

    high_pass_s: Annotated[float, Field(gt=0)] | None = 128.0
    """Slowest period kept, seconds (cosine drifts); null keeps all."""
    detrend: bool = True
    """Take a straight line out of every target."""
    confounds: tuple[str, ...] = ()
    """Columns of the confounds file to regress out."""
    confounds_strategy: Literal["motion", "simple", "compcor"] | None = None
    """In place of columns, a strategy of nilearn for fMRIPrep's confounds file: motion (24 parameters of head
    motion), simple (those, and mean white matter and CSF) or compcor (those, and components of both)."""
    compcor_components: Annotated[int, Field(ge=1)] = 5
    """Components that confounds_strategy: compcor takes, the first of white matter and CSF combined."""
    smoothing_fwhm_mm: Annotated[float, Field(gt=0)] | None = None
    """Spatial smoothing of volumes, millimetres; null for none. Surfaces are never smoothed."""
    drop_first: Annotated[int, Field(ge=0)] = 0
    """Volumes dropped from the beginning of every scan."""
    drop_last: Annotated[int, Field(ge=0)] = 0
    """Volumes dropped from the end of every scan."""
    mask: Path | None = None
    """NIfTI mask of the voxels to keep; null keeps every voxel or vertex that varies."""
    dtype: Literal["float16", "float32"] = "float32"
    """Type of the values in the shards."""

    @field_validator("confounds_strategy", mode="before")
    @classmethod
    def _leaves_no_volume_out(cls, strategy: object) -> object:
        if strategy == "scrubbing":
            raise ValueError(
                "scrubbing leaves volumes out, and windows of speech need a volume at every TR; "
                "take motion, simple or compcor"
            )
        return strategy

    @model_validator(mode="after")
    def _one_way_of_confounds(self) -> Self:
        if self.confounds and self.confounds_strategy:
            raise ValueError(
                f"confounds ({', '.join(self.confounds)}) and confounds_strategy "
                f"({self.confounds_strategy}) are both given; keep one"
            )
        return self


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str | os.PathLike) else value


class Targets(Options):
    """What is predicted: voxels, vertices, or the means of regions."""

    mask: Path | None = None
    """NIfTI mask of the voxels to keep, the same as cleaning.mask; null keeps all that vary."""
    parcellation: Annotated[tuple[Path, ...], Field(max_length=2), BeforeValidator(_as_tuple)] = ()
    """Regions: a NIfTI label image on the recordings' grid, or label GIFTI of the left and the right
    hemisphere; 0 is background. A NIfTI's names are in a .tsv (index, name), .json or .txt beside it."""
    rois: tuple[str, ...] = ()
    """Names of the regions to keep; an empty list keeps all of them."""
    average: bool = True
    """Predict each region's mean, of the recording before cleaning; false keeps its voxels or vertices."""
    min_ceiling: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Lowest noise ceiling (a correlation) of the targets that are kept; null keeps every target."""
    ceiling_from_test: bool = False
    """Let the test stories' recordings take part in the noise ceiling."""

    @model_validator(mode="after")
    def _regions_have_a_map(self) -> Self:
        if self.rois and not self.parcellation:
            raise ValueError(f"rois: {', '.join(self.rois)} are regions of no map; give targets.parcellation")
        return self


class Split(Options):
    """Which stories train, choose and test. No story serves two of these."""

    validation: Annotated[tuple[str, ...], Field(min_length=1)]
    """Stories whose brain score a sweep maximises."""
    test: Annotated[tuple[str, ...], Field(min_length=1)]
    """Stories that only `report` touches."""
    train: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Stories to learn from; null takes all that remain."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = [*self.validation, *self.test, *(self.train or ())]
        twice = sorted({story for story in named if named.count(story) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} would be heard in two splits; keep it in one")
        return self


def _refuse_falling(layers: LayerRange | None, where: str) -> None:
    if layers is not None and layers[0] > layers[1]:
        raise ValueError(
            f"{where}layers {layers[0]} to {layers[1]} run backwards; write [{layers[1]}, {layers[0]}]"
        )


class Lora(Options):
    """Low-rank adapters (Hu et al., arXiv 2106.09685): matrices stay as they are, what is added to them is
    trained, a product of two thin matrices. The refined encoder has it folded into its weights."""

    rank: Annotated[int, Field(ge=1)] = 8
    """Inner size of the product: the highest rank that a matrix's change can have."""
    alpha: Annotated[int, Field(ge=1)] = 16
    """The product is added alpha / rank times."""
    targets: Annotated[tuple[AdaptedType, ...], AfterValidator(_named_once)] = ("attention", "feed_forward")
    """Whose matrices are adapted: attention (query, key, value, output) or feed_forward (both)."""
    layers: LayerRange | None = None
    """First and last transformer layer that is adapted; null for every layer that is run."""

    @field_validator("targets")
    @classmethod
    def _adapts_something(cls, targets: tuple[AdaptedType, ...]) -> tuple[AdaptedType, ...]:
        if not targets:
            raise ValueError("empty; name at least one")
        return tuple(sorted(targets))  # their order says nothing: equal configurations share a digest

    @field_validator("layers")
    @classmethod
    def _range_rises(cls, layers: LayerRange | None) -> LayerRange | None:
        _refuse_falling(layers, "")
        return layers


def _papers_choice() -> Mapping[ParameterType, LayerRange | None]:
    return {"attention": None, "feed_forward": None}


def hidden_states(layers: object) -> HiddenStates:
    """`Configuration.layers` as it is kept, from how it may be written. Raises ValueError."""
    if layers is None:
        return None
    if layers == "weighted":
        return "weighted"
    listed = list(layers) if isinstance(layers, list | tuple) else [layers]
    if not listed:
        raise ValueError("empty; name at least one, or write null for the encoder's output")
    numbers = [one for one in listed if type(one) is int]  # yes and no are ints, too
    if len(numbers) < len(listed):
        wrong = next(one for one in listed if type(one) is not int)
        raise ValueError(f"{wrong} is no hidden state; write a number, a list of numbers, weighted or null")
    if min(numbers) < 0:
        raise ValueError(f"{min(numbers)} is out of range; the nearest valid value is 0")
    for one in numbers:
        if numbers.count(one) > 1:
            raise ValueError(f"{one} is named twice; name it once")
    return tuple(sorted(numbers))  # their order says nothing: equal configurations share a digest


class Configuration(Options):
    """One configuration: all that decides what a refinement gives. The defaults are the paper's.

    The paper (arXiv 2406.08266) hears 6 TRs and refines the transformer with MSE + L2. It does
    not give every rate; those not given are set to what was measured to work.
    """

    objective: Literal["brain", "pretrain"] = "brain"
    """What stage 2 trains the encoder for: brain, to predict BOLD; or pretrain, the paper's control, which
    continues wav2vec2's own pre-training on the sound of the training stories alone, for the same steps. Then
    BOLD only scores: the last epoch is kept; loss, weight_by_ceiling, input_noise and patience do nothing."""
    history: Annotated[int, Field(ge=1, le=40)] = 6
    """TRs of audio, up to a volume's own time, that the encoder hears."""
    pooling: Pooling = "tr"
    """What the head reads of the frames heard: tr, their mean in each TR (the paper's); mean, that over the
    whole history; last, that of its last TR alone; or lanczos, each TR by a Lanczos kernel of three lobes cut
    off at the volume's own time, smoother than tr, as encoding models commonly downsample."""
    layers: HiddenStates = None
    """Hidden states that the head reads, by number: 0 is what enters the first transformer layer, 1 what
    leaves it, and so on to the encoder's output; null for that last one. One number; a list of them, read
    side by side; or weighted, the sum of all, whose weights begin equal and are trained in stage 2 at the
    head's rate. Layers above the highest that is read are not run."""
    unfrozen: Mapping[ParameterType, LayerRange | None] = Field(default_factory=_papers_choice)
    """Parameter types that stage 2 trains, each with first and last transformer layer; null for
    every layer that is run. An empty mapping fits the head alone; it is the default where lora is given."""
    lora: Lora | None = None
    """Low-rank adapters that stage 2 trains, in place of whole matrices or beside other types; null for none.
    `lora: {}` takes the defaults."""
    head: HeadKind = "linear"
    """From what is read to the targets: linear, with weights of each subject's own; conv_linear, one
    convolution over TRs for all targets and then such weights, both trained in stage 2; or shared,
    linear, with the same weights for all subjects that are refined together, whose targets must be the same
    places (voxels or vertices of a common space, or regions)."""
    conv_kernel: Annotated[int, Field(ge=1, le=40)] = 3
    """TRs that the convolution of head: conv_linear spans: the one itself and those before it."""
    stage1: Literal["ridge", "adam"] = "ridge"
    """How stage 1 fits the head: ridge solves the penalised least squares exactly; adam descends to the same
    minimum step by step, as the paper does, and is there to compare with (noise: white)."""
    head_l2: Annotated[float, Field(gt=0)] = 1.0
    """Penalty on the head, as a multiple of the one that cross-validation chose per target."""
    head_rank: Annotated[int, Field(ge=1)] | None = None
    """Directions of the features that all targets share: the head's weights are a product of two matrices of
    this inner size, at first the best such fit to stage 1's predictions (reduced-rank regression), then
    trained as two; null for a head that is free."""
    encoder_lr: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Learning rate of the encoder, at its highest."""
    head_lr: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Learning rate of the head (AdamW), at its highest."""
    epochs: Annotated[int, Field(ge=0)] = 6
    """Passes over the training windows in stage 2."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Windows per optimiser step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps over which the learning rates rise; a cosine brings them down again."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a gradient."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of the encoder's optimiser."""
    noise: Literal["ar", "white"] = "ar"
    """How BOLD's noise is modelled: ar, by an autoregression of what stage 1 leaves over, so that ridge and
    stage 2 weigh volumes rightly; or white, each volume by itself, the paper's plain loss."""
    loss: LossKind = "mse"
    """What stage 2 makes small: mse, the mean squared error (the paper's); corr, 1 - Pearson r across targets
    within a volume; or cosine, the same without centring."""
    weight_by_ceiling: bool = False
    """Let a target count by the square of its noise ceiling (loss: mse)."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    """adamw; or muon for the encoder's matrices, and adamw for the rest. For muon, encoder_lr is the share of
    its own size that a step changes of a matrix, 0.01 to 0.05, say."""
    anchor_l2: Annotated[float, Field(ge=0)] = 0.0
    """Penalty on the squared distance from the pretrained weights."""
    input_noise: Annotated[float, Field(ge=0)] = 0.0
    """Noise on what enters the trained part, as a multiple of each feature's own spread."""
    context: Literal["window", "stretch"] = "window"
    """What the encoder hears for a volume: window, its own history by itself (the paper); or stretch, one
    pass over `stretch_s` for all volumes in it, each of which sees only what came before: much faster."""
    stretch_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of a stretch; at least a history is taken."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Windows that go through the encoder at once, fewer than `batch` to save memory: the same steps, but
    each window is then heard twice. null for all."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better validation score after which stage 2 ends; null for all epochs."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder in stage 2: auto takes bfloat16 on GPUs that are made for it, float32 elsewhere."""
    compile: bool = False
    """Let torch compile the trained part: minutes at the start, faster steps."""

    @field_validator("layers", mode="before")
    @classmethod
    def _numbers_rise(cls, layers: object) -> object:
        return hidden_states(layers)

    @field_validator("unfrozen")
    @classmethod
    def _ranges_rise(
        cls, unfrozen: Mapping[ParameterType, LayerRange | None]
    ) -> Mapping[ParameterType, LayerRange | None]:
        for kind, layers in unfrozen.items():
            _refuse_falling(layers, f"{kind}: ")
        return unfrozen

    @model_validator(mode="before")
    @classmethod
    def _adapters_alone(cls, data: Any) -> Any:
        # the default would train whole the very matrices that are adapted
        if isinstance(data, dict) and data.get("lora") is not None and "unfrozen" not in data:
            return data | {"unfrozen": {}}
        return data

    @model_validator(mode="after")
    def _adam_is_plain(self) -> Self:
        if self.stage1 == "adam" and self.noise == "ar":
            raise ValueError("stage1: adam knows no model of noise; set noise: white, or stage1: ridge")
        return self

    @model_validator(mode="after")
    def _a_shared_head_is_solved(self) -> Self:
        if self.stage1 == "adam" and self.head == "shared":
            raise ValueError("stage1: adam fits each subject's own head; set head: linear, or stage1: ridge")
        return self

    @model_validator(mode="after")
    def _a_convolution_needs_trs(self) -> Self:
        if self.head == "conv_linear" and self.pooling in ("mean", "last"):
            raise ValueError(
                f"head: conv_linear goes over TRs, of which pooling: {self.pooling} leaves one; set "
                "pooling: tr or lanczos, or head: linear"
            )
        return self

    @model_validator(mode="after")
    def _stretches_are_read_plainly(self) -> Self:
        if self.context == "stretch" and (self.pooling != "tr" or self.layers is not None):
            raise ValueError(
                "context: stretch reads the encoder's output by TRs; set pooling: tr and layers: null, or "
                "context: window"
            )
        return self

    @model_validator(mode="after")
    def _one_way_of_training(self) -> Self:
        if self.lora is None:
            return self
        for kind in self.lora.targets:
            if kind in self.unfrozen and _meet(self.lora.layers, self.unfrozen[kind]):
                raise ValueError(
                    f"{kind} is in unfrozen and in lora.targets: its matrices would be trained whole and "
                    "adapted; keep it in one, or give them different layers"
                )
        return self

    @model_validator(mode="after")
    def _pretrains_something(self) -> Self:
        if self.objective == "pretrain" and not self.refines:
            raise ValueError(
                "objective: pretrain has nothing to train; name parameter types in unfrozen, or give lora"
            )
        return self

    @property
    def keeps_best(self) -> bool:
        """Whether the epoch of stage 2 with the best score is kept; else it is the last."""
        return self.objective == "brain"

    @property
    def refines(self) -> bool:
        """Whether stage 2 trains anything of the encoder."""
        return bool(self.unfrozen) or self.lora is not None

    @property
    def digest(self) -> str:
        """Short content address: two equal configurations share it."""
        return short_digest(self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The configuration written in a YAML file, such as `best` writes.

        Raises StudyError naming the file, the key and the nearest valid one.
        """
        return validated(cls, read_yaml(path), path)

    def as_yaml(self) -> str:
        """The configuration as `load` reads it."""
        return to_yaml(self.model_dump(mode="json"))

    def save(self, path: Path, heading: str = "") -> None:
        """Write as YAML, whole or not at all. `heading`: comment lines put on top."""
        write_whole(path, as_comment(heading) + self.as_yaml())


def _meet(one: LayerRange | None, other: LayerRange | None) -> bool:
    """Whether two ranges have a layer in common; None is every layer."""
    return one is None or other is None or max(one[0], other[0]) <= min(one[1], other[1])


class IntRange(Options):
    """Whole numbers from low to high, both included. Equal ends fix the value."""

    low: int
    high: int

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; exchange them")
        return self


class LogRange(Options):
    """Numbers from low to high on a logarithmic scale. Equal ends fix the value."""

    low: Annotated[float, Field(gt=0)]
    high: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; exchange them")
        return self


class Space(Options):
    """What a sweep may vary. A key left out has the range shown; null leaves it as in `configuration`; equal
    ends, or one choice, fix a value."""

    history: IntRange = IntRange(low=1, high=10)
    """History length, TRs."""
    pooling: (
        Annotated[
            tuple[Pooling, ...], Field(min_length=1), AfterValidator(_named_once), BeforeValidator(_as_tuple)
        ]
        | None
    ) = None
    """Ways of pooling to choose from, such as [tr, lanczos]."""
    layers: Annotated[tuple[HiddenStates, ...], Field(min_length=1)] | None = None
    """What the head may read, each as in configuration.layers, such as [6, [4, 8], weighted, null]."""
    unfrozen: Annotated[tuple[ParameterType, ...], AfterValidator(_named_once)] | None = (
        "attention",
        "feed_forward",
        "layer_norm",
    )
    """Parameter types that may be unfrozen, each on its own; never those that configuration.lora adapts.
    null: those of configuration.unfrozen, always."""
    ranges: Literal["shared", "each", "own"] = "shared"
    """Layers in which types are unfrozen: shared, one range for all types; each, a range for every type; own,
    those of configuration.unfrozen, and all layers for a type that it lacks."""
    first_layer: IntRange | None = None
    """First layer of such a range; null for any."""
    layer_span: IntRange | None = None
    """How many layers such a range has, less what would lie above the encoder; null for any number."""
    lora_rank: IntRange | None = None
    """Rank of configuration.lora; its alpha rises and falls with it."""
    head_l2: LogRange = LogRange(low=0.3, high=3.0)
    """Penalty on the head, as a multiple of the cross-validated one."""
    anchor_l2: LogRange | None = None
    """Penalty on the squared distance from the pretrained weights."""
    weight_decay: LogRange | None = None
    """Weight decay of the encoder's optimiser."""
    encoder_lr: LogRange | None = None
    """Learning rate of the encoder; null: 1e-5 to 1e-3, and 0.005 to 0.05 for optimiser: muon."""
    head_lr: LogRange = LogRange(low=3e-5, high=3e-3)
    """Learning rate of the head."""
    epochs: IntRange | None = None
    """Passes over the training windows in stage 2."""

    @field_validator("layers", mode="before")
    @classmethod
    def _states(cls, layers: object) -> object:
        if layers is None:
            return None
        choices = list(layers) if isinstance(layers, list | tuple) else [layers]
        states = [hidden_states(choice) for choice in choices]
        for one, choice in zip(states, choices, strict=True):
            if states.count(one) > 1:
                raise ValueError(f"{choice} is named twice; name it once")
        return tuple(states)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name, low, high in (
            ("history", 1, 40), ("lora_rank", 1, None), ("epochs", 1, None), ("first_layer", 0, None),
            ("layer_span", 1, None),
        ):  # fmt: skip
            some: IntRange | None = getattr(self, name)
            if some is not None and (some.low < low or (high is not None and some.high > high)):
                within = f"lies within {low} to {high}" if high is not None else f"begins at {low}"
                raise ValueError(
                    f"{name}: {some.low} to {some.high} is out of range; the nearest valid range {within}"
                )
        return self


class Objective(Options):
    """What a trial's score is where it refines each subject by itself, one after the other."""

    subjects: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_named_once)] | None = None
    """Whom every trial refines, in this order: it can be stopped after each. all, or null: those of the
    study's `subjects`."""
    reduce: Reduction = "mean"
    """What the score is of their brain scores: mean, median or min."""

    @field_validator("subjects", mode="before")
    @classmethod
    def _all_or_listed(cls, subjects: object) -> object:
        return None if subjects == "all" else _as_tuple(subjects)


class Search(Options):
    """How the space is searched."""

    trials: Annotated[int, Field(ge=1)] = 12
    """Configurations tried; the paper's is always the first."""
    parallel: Annotated[int, Field(ge=1)] = 2
    """Trials proposed together, and the most that run at once. Part of the result's identity:
    the same seed and the same number give the same sweep on any machine."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that share every step of a trial, on one machine or several: the same steps, sooner."""
    cpus_per_trial: Annotated[float, Field(gt=0)] = 1
    """Processor cores each trial holds, or each of its workers."""
    gpus_per_trial: Annotated[float, Field(ge=0)] = 0
    """GPUs each trial holds, or each of its workers; a fraction shares one."""
    sampler: Sampler = "tpe"
    """What proposes (Optuna): tpe, tree-structured Parzen estimator over all parameters together; gp, a
    Gaussian process; cmaes, evolution of a normal distribution; random; or nsgaii, evolution towards two
    goals, a high brain score and what second_goal says. gp and cmaes need a space whose parameters every
    trial has."""
    second_goal: SecondGoal | None = None
    """What sampler: nsgaii makes small beside a high score: trained_parameters, how many numbers of the
    encoder a trial trains; or drift, how far those moved from the pretrained ones, relative to their size.
    null: trained_parameters for nsgaii, and nothing for the others, which have one goal."""
    objective: Objective | None = None
    """Score a configuration by refining each of several subjects by itself; null: by refining them jointly.
    Not to be confused with configuration.objective, which says what stage 2 trains for."""
    stopping: Stopping | None = None
    """What ends a poor trial early: asha, successive halving; median, being worse than the median of earlier
    trials; or none. null: asha, and none for nsgaii."""
    grace_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs of stage 2 that every trial may run before it can be stopped; 0: after stage 1. Over several
    subjects (objective) it has no meaning: a trial can be stopped after each of them."""
    reduction: Annotated[int, Field(ge=2)] = 4
    """At each rung of asha, one trial in this many goes on. 4 is what its authors take; with 2, short sweeps
    took more than half of random search's epochs."""
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How often a trial that died is tried again, before it counts as failed."""
    mlflow_wait_s: Annotated[float, Field(ge=0)] = 300.0
    """How long the end of a sweep or refinement waits for an MLflow that doesn't answer, seconds. What it
    lacks then stays in the results folder, and the study's next command sends it."""
    storage: str | None = None
    """Where Optuna keeps what it has proposed and learnt: an SQLAlchemy URL, such as postgresql://host/name;
    null: optuna.db, an SQLite file in the results folder."""
    space: Space = Space()
    """What varies."""

    @field_validator("storage")
    @classmethod
    def _is_a_url(cls, storage: str | None) -> str | None:
        if storage is not None and not re.match(r"[a-z][a-z0-9+]*://.", storage):
            raise ValueError("no URL of a database; write sqlite:///FILE or postgresql://HOST/NAME")
        return storage

    @model_validator(mode="after")
    def _one_goal_to_stop_by(self) -> Self:
        if self.sampler == "nsgaii" and self.stopping in ("asha", "median"):
            raise ValueError(
                f"stopping: {self.stopping} judges by the brain score alone, and sampler: nsgaii has two "
                "goals; set stopping: none"
            )
        return self

    @model_validator(mode="after")
    def _only_some_have_two_goals(self) -> Self:
        if self.second_goal is not None and self.sampler != "nsgaii":
            raise ValueError(
                f"second_goal: {self.second_goal} is for sampler: nsgaii; {self.sampler} has one goal"
            )
        return self


class Activations(Options):
    """The store of what the frozen part of the encoder gives, a folder in `results`."""

    max_gb: Annotated[float, Field(gt=0)] | None = None
    """Most that it may hold, gigabytes (10^9 bytes): what was used longest ago makes room, what is in use
    stays. null: nine tenths of the room that it and the disk's free space have together."""
    dtype: StoredType = "float32"
    """Type of the stored numbers. The two short ones take half the disk: bfloat16 keeps 2 to 3 digits,
    float16 3 to 4 but no number beyond 65,504, which it refuses."""


class Simulation(Options):
    """The embedded dataset: what is recorded, and the truth behind it."""

    subjects: Annotated[int, Field(ge=1, le=999)] = 3
    """People in the scanner."""
    null_subjects: Annotated[int, Field(ge=0, le=99)] = 0
    """Further subjects whose BOLD is pure noise: a control in which nothing may be gained."""
    stories: Annotated[int, Field(ge=3)] = 5
    """Stories that each of them hears; the last but one twice, for the noise ceiling."""
    minutes: Annotated[float, Field(ge=0.5)] = 5.0
    """Length of a story, minutes."""
    tr_s: Annotated[float, Field(gt=0)] = 1.5
    """Seconds between volumes; a multiple of 0.02, the encoder's own step."""
    history: Annotated[int, Field(ge=1, le=20)] = 6
    """TRs of speech that the simulated brain hears: what a sweep should find."""
    space: Literal["fsaverage5", "mni"] = "fsaverage5"
    """Surface (GIFTI) or volume (NIfTI) recordings."""
    hearing_targets: Annotated[int, Field(ge=1)] = 240
    """Vertices or voxels around auditory cortex that hear."""
    silent_targets: Annotated[int, Field(ge=0)] = 40
    """Vertices or voxels elsewhere that hear nothing."""
    ceiling: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Correlation of a perfect prediction with one recording."""
    perturbed: tuple[Literal["attention", "feed_forward"], ...] = ("attention", "feed_forward")
    """Parameter types that the encoder to refine has lost."""
    perturbed_layers: tuple[Literal[0, 1], ...] = (0, 1)
    """Transformer layers in which it has lost them."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        if abs(self.tr_s / 0.02 - round(self.tr_s / 0.02)) > 1e-9:
            raise ValueError(
                f"tr_s: {self.tr_s} is no multiple of 0.02; the nearest valid value is "
                f"{round(round(self.tr_s / 0.02) * 0.02, 2)}"
            )
        return self


class Study(Options):
    """One study: data, encoder, split, search. `Study.load(path)` reads the file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the MLflow experiment."""
    shards: Annotated[Place, PlainValidator(_place), PlainSerializer(str, return_type=str, when_used="json")]
    """Folder that `prepare` wrote, or its URL, such as s3://bucket/folder."""
    encoder: str
    """Folder or hub name of the wav2vec2, HuBERT, WavLM or Data2VecAudio to refine, for instance
    facebook/wav2vec2-base."""
    split: Split
    """Which stories train, choose and test."""
    results: Path = Path()
    """Folder of `mlflow.db`, the activation store and the refined encoders."""
    subjects: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_named_once)] | None = None
    """Subjects that a sweep refines, jointly unless search.objective says otherwise; null for all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    cleaning: Cleaning = Cleaning()
    """How BOLD was cleaned: what `prepare` uses when it is given this file."""
    targets: Targets = Targets()
    """What is predicted; `prepare` writes only these into the shards."""
    configuration: Configuration = Configuration()
    """The paper's configuration, the first trial; what a sweep doesn't vary is taken from here."""
    search: Search = Search()
    """How configurations are searched."""
    activations: Activations = Activations()
    """How frozen activations are stored."""

    @property
    def encoder_rates(self) -> LogRange:
        """The encoder's learning rates that a sweep may try, for the optimiser that it has."""
        if self.search.space.encoder_lr is not None:
            return self.search.space.encoder_lr
        muon = self.configuration.optimiser == "muon"
        return LogRange(low=0.005, high=0.05) if muon else LogRange(low=1e-5, high=1e-3)

    @model_validator(mode="after")
    def _space_is_possible(self) -> Self:
        space, own = self.search.space, self.configuration
        if space.lora_rank is not None and own.lora is None:
            raise ValueError("search.space.lora_rank: configuration.lora is null; write `lora: {}` there")
        if own.context == "stretch":
            for name, choices, only in (("pooling", space.pooling, "tr"), ("layers", space.layers, None)):
                if choices is not None and set(choices) != {only}:
                    raise ValueError(
                        f"search.space.{name}: configuration.context: stretch reads the encoder's output by "
                        "TRs; leave it out, or set context: window"
                    )
        if own.head == "conv_linear" and {"mean", "last"} & set(space.pooling or ()):
            raise ValueError(
                "search.space.pooling: configuration.head: conv_linear goes over TRs, of which mean and last "
                "leave one; keep tr and lanczos, or set head: linear"
            )
        return self

    @model_validator(mode="after")
    def _scores_people_of_the_study(self) -> Self:
        objective = self.search.objective
        if objective is not None and objective.subjects is not None and self.subjects is not None:
            for subject in objective.subjects:
                if subject not in self.subjects:
                    raise ValueError(
                        f"search.objective.subjects: {subject} is none of the study's subjects; add it to "
                        "subjects, or leave those out"
                    )
        return self

    @model_validator(mode="after")
    def _one_mask(self) -> Self:
        one, other = self.cleaning.mask, self.targets.mask
        if one is not None and other is not None and one != other:
            raise ValueError(f"cleaning.mask is {one} and targets.mask is {other}; keep one")
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The study in a YAML file; its relative paths are made absolute.

        Raises StudyError naming the file, the key and the nearest valid one.
        """
        path = Path(path)
        study = validated(cls, read_yaml(path), path)
        return study.at(path.parent.resolve())

    def at(self, folder: Path) -> Self:
        """The same study with its relative paths taken from `folder`."""
        mask, own = self.cleaning.mask, self.targets.mask
        storage = self.search.storage
        if storage is not None and re.match("sqlite:///[^/]", storage):  # as any path in the file
            storage = f"sqlite:///{folder / storage.removeprefix('sqlite:///')}"
        encoder = folder / Path(self.encoder).expanduser()
        return self.model_copy(
            update={
                "shards": absolute(self.shards, folder),
                "results": folder / self.results.expanduser(),
                "search": self.search.model_copy(update={"storage": storage}),
                "encoder": str(encoder.resolve()) if encoder.is_dir() else self.encoder,
                "cleaning": self.cleaning.model_copy(
                    update={"mask": None if mask is None else folder / mask.expanduser()}
                ),
                "targets": self.targets.model_copy(
                    update={
                        "mask": None if own is None else folder / own.expanduser(),
                        "parcellation": tuple(
                            folder / path.expanduser() for path in self.targets.parcellation
                        ),
                    }
                ),
            }
        )

    def save(self, path: Path, heading: str = "") -> None:
        """Write as YAML, whole or not at all; paths below the file's folder are written relative.

        heading: comment lines put on top.
        """
        folder = path.parent.resolve()
        data = self.model_dump(mode="json")
        for key in ("shards", "results", "encoder"):
            place = Path(data[key])
            if place.is_absolute() and place.is_relative_to(folder):
                data[key] = str(place.relative_to(folder))
        write_whole(path, as_comment(heading) + to_yaml(data))

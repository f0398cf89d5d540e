"""What a sweep may try, as one define-by-run function for Optuna."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from wav2bold.config import Configuration, HiddenStates, IntRange, LayerRange, Lora, ParameterType, Study
from wav2bold.errors import StudyError
from wav2bold.tuning.answers import Answers, Asked, OutsideError

LAYERED: tuple[ParameterType, ...] = ("attention", "feed_forward", "layer_norm", "bias")
"""Parameter types that have a transformer layer."""


@dataclass(frozen=True)
class Proposals:
    """Asks for the parameters of one configuration; gives the task of a `WarmTrial`.

    Conditional where it must be: no layer range where nothing is unfrozen, no learning rates
    where nothing is adapted either. What the space doesn't vary is the study's own, adapters too. What the
    head of a trial can't hear, since `layers` ends below it, is not trained.
    depth: transformer layers of the encoder.  subjects: whom every trial refines, jointly or one by one.
    """

    study: Study
    depth: int
    subjects: tuple[str, ...]

    def task(self, number: int, trial: Asked) -> dict[str, Any]:
        """{"task": ...} for trial `number`."""
        # Optuna learns from the nearest point of the space; the first trial itself is exact
        proposed = self.configuration(trial)
        configuration = self.study.configuration if number == 0 else proposed
        objective = self.study.search.objective
        return {
            "task": {
                "number": number,
                "configuration": configuration.model_dump(mode="json"),
                "subjects": list(self.subjects),
            }
            | ({} if objective is None else {"reduce": objective.reduce})
        }

    def configuration(self, trial: Asked) -> Configuration:
        """The configuration that the answers of a trial make."""
        space, own = self.study.search.space, self.study.configuration
        values: dict[str, Any] = own.model_dump()
        values["history"] = trial.suggest_int("history", space.history.low, space.history.high)
        values["head_l2"] = trial.suggest_float("head_l2", space.head_l2.low, space.head_l2.high, log=True)
        if space.pooling is not None:
            values["pooling"] = trial.suggest_categorical("pooling", list(space.pooling))
        states = own.layers
        if space.layers is not None:
            choices = {said(choice): choice for choice in space.layers}
            states = values["layers"] = choices[trial.suggest_categorical("layers", list(choices))]
        top = self._top(states)
        lora = self._adapters(trial, top)
        kinds = self._kinds(trial, top)
        # the head alone can't be pre-trained
        own_kinds = not kinds and lora is None and own.objective == "pretrain"
        if kinds or lora is not None or own_kinds:
            for name, some in (
                ("encoder_lr", self.study.encoder_rates),
                ("head_lr", space.head_lr),
                ("anchor_l2", space.anchor_l2),
                ("weight_decay", space.weight_decay),
            ):
                if some is not None:
                    values[name] = trial.suggest_float(name, some.low, some.high, log=True)
            if space.epochs is not None:
                values["epochs"] = trial.suggest_int("epochs", space.epochs.low, space.epochs.high)
        unfrozen = dict(own.unfrozen) if own_kinds else self._ranges(trial, kinds, top)
        return Configuration.model_validate(values | {"unfrozen": unfrozen, "lora": lora})

    def first_point(self) -> dict[str, Any]:
        """The point of the space nearest to the study's own configuration, which is the first trial."""
        answers = Answers(self._point(self.study.configuration))
        self.configuration(answers)
        return answers.params

    def known(self, configuration: Configuration) -> Answers | None:
        """The point of the space that is exactly this configuration; None if it lies outside."""
        answers = Answers(self._point(configuration), nearest=False)
        try:
            return answers if self.configuration(answers) == configuration else None
        except OutsideError:
            return None

    def conditional(self) -> list[str]:
        """Parameters that only some trials have."""
        space, point = self.study.search.space, self._point(self.study.configuration)
        heard = [self.study.configuration.layers] if space.layers is None else list(space.layers)
        asked = []
        for switched, states in product((True, False), heard):
            switches = {name: switched for name in point if name.startswith("unfreeze_")}
            answers = Answers(point | switches | {"layers": said(states)})
            self.configuration(answers)
            asked.append(answers.params.keys())
        return [name for name in point if 0 < sum(name in names for names in asked) < len(asked)]

    def refuse_impossible(self) -> None:
        """Raise StudyError if the space begins above the encoder's layers."""
        space = self.study.search.space
        highest = max((choice[-1] for choice in space.layers or () if isinstance(choice, tuple)), default=0)
        if highest > self.depth:
            raise StudyError(
                f"search.space.layers: there is no hidden state {highest}", f"the last is {self.depth}"
            )
        if space.first_layer is not None and space.first_layer.low >= max(self.depth, 1):
            raise StudyError(
                f"search.space.first_layer: there is no layer {space.first_layer.low}",
                f"the last is {self.depth - 1}",
            )

    def _top(self, states: HiddenStates) -> int:
        """The highest hidden state that is read."""
        return states[-1] if isinstance(states, tuple) else self.depth

    @property
    def _tops(self) -> int:
        """The highest that any trial reads."""
        choices = self.study.search.space.layers
        heard = [self.study.configuration.layers] if choices is None else choices
        return max(self._top(states) for states in heard)

    def _kinds(self, trial: Asked, top: int) -> list[ParameterType]:
        """Types that this trial unfreezes: of those that its head can hear and that aren't adapted."""
        own, wanted = self.study.configuration, self.study.search.space.unfrozen
        adapted = () if own.lora is None else own.lora.targets
        if wanted is None:
            return [kind for kind in own.unfrozen if self._own_range(kind, top) != ()]
        able = [kind for kind in wanted if kind not in adapted and (top > 0 or kind not in LAYERED)]
        return [kind for kind in able if trial.suggest_categorical(f"unfreeze_{kind}", [True, False])]

    def _ranges(
        self, trial: Asked, kinds: Sequence[ParameterType], top: int
    ) -> dict[ParameterType, LayerRange | None]:
        """The layers in which each type is unfrozen."""
        own, mode = self.study.configuration, self.study.search.space.ranges
        # beside adapters of the same type only the range that the study gives is sure to be apart from theirs
        kept = set(own.lora.targets if own.lora else ()) | (set(kinds) if mode == "own" else set())
        unfrozen: dict[ParameterType, LayerRange | None] = {}
        shared: list[LayerRange | None] = []
        for kind in kinds:
            if kind not in LAYERED:
                unfrozen[kind] = None
            elif kind in kept:
                unfrozen[kind] = self._own_range(kind, top) or None
            elif mode == "each":
                unfrozen[kind] = self._range(trial, f"first_{kind}", f"span_{kind}", top)
            else:
                shared = shared or [self._range(trial, "first_layer", "layer_span", top)]
                unfrozen[kind] = shared[0]
        return unfrozen

    def _range(self, trial: Asked, first_name: str, span_name: str, top: int) -> LayerRange | None:
        """A range of layers below hidden state `top`; None is all of them."""
        space, highest = self.study.search.space, self._tops
        firsts = space.first_layer or IntRange(low=0, high=highest - 1)
        spans = space.layer_span or IntRange(low=1, high=highest)
        low = min(firsts.low, highest - 1)
        first = trial.suggest_int(first_name, low, min(firsts.high, highest - 1))
        span = trial.suggest_int(span_name, min(spans.low, highest), min(spans.high, highest))
        first = min(first, top - 1)
        last = min(first + span, top) - 1
        return None if (first, last) == (0, top - 1) else (first, last)

    def _own_range(self, kind: ParameterType, top: int) -> LayerRange | tuple[()] | None:
        """The study's range of a type below hidden state `top`; () if nothing of it is left."""
        span = self.study.configuration.unfrozen.get(kind)
        if kind in LAYERED and top == 0:
            return ()
        return span if span is None else _below(span, top)

    def _adapters(self, trial: Asked, top: int) -> Lora | None:
        """The study's adapters, as far as the head can hear them, of the rank that the trial has."""
        lora, ranks = self.study.configuration.lora, self.study.search.space.lora_rank
        layers = None if lora is None or lora.layers is None else _below(lora.layers, top)
        if lora is None or top == 0 or layers == ():
            return None
        lora = lora.model_copy(update={"layers": layers})
        if ranks is None:
            return lora
        rank = trial.suggest_int("lora_rank", ranks.low, ranks.high, log=True)
        # what the adapters add is weighed by alpha / rank: that weight stays the study's
        alpha = max(round(lora.alpha / lora.rank * rank), 1)
        return lora.model_copy(update={"rank": rank, "alpha": alpha})

    def _point(self, configuration: Configuration) -> dict[str, Any]:
        """What a configuration answers to whatever may be asked."""
        kinds = self.study.search.space.unfrozen or ()
        every = (
            "history",
            "pooling",
            "head_l2",
            "encoder_lr",
            "head_lr",
            "anchor_l2",
            "weight_decay",
            "epochs",
        )
        point: dict[str, Any] = {name: getattr(configuration, name) for name in every}
        point |= {"layers": said(configuration.layers), "lora_rank": getattr(configuration.lora, "rank", 1)}
        point |= {f"unfreeze_{kind}": kind in configuration.unfrozen for kind in kinds}
        spans = {kind: self._first_and_span(configuration.unfrozen.get(kind)) for kind in LAYERED}
        for kind, (first, span) in spans.items():
            point |= {f"first_{kind}": first, f"span_{kind}": span}
        unfrozen = [spans[kind] for kind in configuration.unfrozen if kind in spans]
        first, span = unfrozen[0] if unfrozen else (0, self._tops)
        return point | {"first_layer": first, "layer_span": span}

    def _first_and_span(self, layers: LayerRange | None) -> tuple[int, int]:
        return (0, self._tops) if layers is None else (layers[0], layers[1] - layers[0] + 1)


def said(states: HiddenStates) -> str:
    """Hidden states as one word: Optuna remembers plain values only."""
    if states is None:
        return "last"
    return states if isinstance(states, str) else "+".join(map(str, states))


def _below(span: LayerRange, top: int) -> LayerRange | tuple[()]:
    """What of a range of layers lies below hidden state `top`."""
    return () if span[0] >= top else (span[0], min(span[1], top - 1))

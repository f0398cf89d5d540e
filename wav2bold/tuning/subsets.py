"""Subsets of an encoder's parameters, each refined by itself: those that a file names, or all there are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wav2bold.config import BELOW_LAYERS, PARAMETER_TYPES, Configuration, LayerRange, ParameterType
from wav2bold.errors import EncoderError, StudyError
from wav2bold.options import explain, read_yaml
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.families import UNUSED
from wav2bold.trainables.parameter_types import parameter_type
from wav2bold.trainables.reading import states_read
from wav2bold.trainables.unfreezing import lowest_boundary

EACH = "each"
"""The word that stands for every type in every layer, in place of a file."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Subset:
    """name: also of its folder.  unfrozen: types and their layers, as in `Configuration.unfrozen`."""

    name: str
    unfrozen: Mapping[ParameterType, LayerRange | None]

    def alone(self, configuration: Configuration) -> Configuration:
        """The configuration with nothing else of the encoder trained: no other types, and no adapters."""
        return configuration.model_copy(update={"unfrozen": dict(self.unfrozen), "lora": None})


def chosen_subsets(encoder: Encoder, configuration: Configuration, given: str | Path) -> tuple[Subset, ...]:
    """The subsets in a YAML file, `name: {type: range}`, or with "each" those of `every_subset`.

    Raises StudyError for a file that names none, one twice, or what can't be; EncoderError for types or
    layers that the encoder lacks or the head doesn't reach. All mistakes of either kind are told at once.
    """
    if given == EACH:
        return every_subset(encoder, configuration)
    path = Path(given)
    subsets = _read(path)
    wrong = []
    for subset in subsets:
        try:
            lowest_boundary(encoder, subset.alone(configuration))
        except EncoderError as error:
            wrong.append(f"{subset.name}: {_plain(str(error))}")
    if wrong:
        raise EncoderError(f"{path}: {'; '.join(wrong)}")
    return subsets


def every_subset(encoder: Encoder, configuration: Configuration) -> tuple[Subset, ...]:
    """Every parameter type in every layer that has it and that the head reads; types below the layers once.

    What lies below the layers of a type that layers have, such as the projection's own norm, is in none.
    """
    top = states_read(encoder, configuration.layers)[-1]
    places = {parameter_type(name) for name, _ in encoder.model.named_parameters() if name != UNUSED}
    found = []
    for kind in PARAMETER_TYPES:
        if kind in BELOW_LAYERS:
            found += [Subset(kind, {kind: None})] if (kind, None) in places else []
        else:
            layers = [layer for layer in range(top) if (kind, layer) in places]
            found += [Subset(f"{kind}-{layer}", {kind: (layer, layer)}) for layer in layers]
    return tuple(found)


def _read(path: Path) -> tuple[Subset, ...]:
    """The subsets in a file, in its order, as far as can be known without the encoder."""
    if not path.exists():
        raise StudyError(f"{path}: no such file", f"write `name: {{type: range}}` lines, or give {EACH}")
    data: dict[Any, Any] = read_yaml(path)
    if not data:
        raise StudyError(f"{path}: names no subset", "write one `name: {type: range}` per line")
    document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    wrong = [f"{name} is named twice; give it another name" for name in _twice(document)]
    subsets = []
    for name, unfrozen in data.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            wrong.append(f"{name} can't name a folder; use letters, digits, dot, dash and underscore")
        elif not isinstance(unfrozen, dict) or not unfrozen:
            wrong.append(f"{name} names no parameter type; write {name}: {{attention: null}}")
        else:
            try:
                subsets.append(Subset(name, Configuration.model_validate({"unfrozen": unfrozen}).unfrozen))
            except ValidationError as error:
                wrong.append(f"{name}: {_plain(explain(Configuration, error))}")
    if wrong:
        raise StudyError(f"{path}: {'; '.join(wrong)}")
    return tuple(subsets)


def _plain(said: str) -> str:
    """A mistake without the option that a subset stands for."""
    return re.sub(r"\bunfrozen(\.|: )", "", said)


def _twice(node: yaml.Node | None) -> list[str]:
    """Keys that stand twice in a YAML mapping or one within it, of which a reader keeps the last in silence.

    Those that differ in case alone count: on some disks they would be one folder.
    """
    if not isinstance(node, yaml.MappingNode):
        return []
    names = [str(key.value) for key, _ in node.value]
    seen = [name.casefold() for name in names]
    twice = [name for place, name in enumerate(names) if name.casefold() in seen[:place]]
    return twice + [name for _, value in node.value for name in _twice(value)]

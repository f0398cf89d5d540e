"""What all sections of the study file share: reading, checking, explaining and writing options."""

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from wav2bold.errors import DataError, StudyError, may_not_be_read
from wav2bold.places import written


class Options(BaseModel):
    """What every section shares: unknown keys are refused, values don't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        # YAML reads yes, no, on and off as truth values, and Python takes those for 1 and 0
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation is not bool:
            word = "true (yes, on)" if value else "false (no, off)"
            raise ValueError(f"{word} is out of place; put a word in quotes, or write a number")
        return value


Model = TypeVar("Model", bound=Options)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place at the end: a reader sees all of it or nothing.

    Raises StorageError if it can't be written; what was there is then as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, as `whole` does."""
    with whole(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())


def check_file(path: Path) -> None:
    """Raise DataError unless a file can be written at `path`. Changes nothing."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder", "give the name of a file")
    _check_above(path)


def check_folder(path: Path, cure: str = "choose another --out") -> None:
    """Raise DataError unless `path` is a folder to write into, or one can be made there. Changes nothing."""
    if _is_there(path) and not path.is_dir():
        raise DataError(f"{path}: is a file", cure)
    _check_above(path / "any", cure)


def _check_above(path: Path, cure: str = "choose another --out") -> None:
    above = next(folder for folder in path.absolute().parents if _is_there(folder))
    if not above.is_dir():
        raise DataError(f"{above}: is a file, no folder can be made below it", cure)
    if not os.access(above, os.W_OK | os.X_OK):
        raise DataError(f"{above}: can't be written into", f"let yourself write there, or {cure}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # what lies in a closed folder is nobody's business
        return False


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like a misspelt one; None if nothing is like it."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def read_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file, unchecked. Raises StudyError naming the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file", "`prepare` writes a study.yaml to begin from") from None
    except PermissionError:
        raise may_not_be_read(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: can't be read ({error})", "give a YAML text file") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise StudyError(f"{path}: not YAML{line}", "mend the indentation or the quotes there") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: holds no options", "write one `key: value` per line")
    return data


def validated(model: type[Model], data: dict[str, Any], path: Path) -> Model:
    """The options checked. Raises StudyError naming the file they came from and all that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise StudyError(f"{path}: {explain(model, error)}") from None


def explain(model: type[Options], error: ValidationError) -> str:
    """All that is wrong with some options, on one line, with the nearest valid ones."""
    return "; ".join(_explain(model, problem) for problem in error.errors())


def options_of(model: type[Options], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every option with its section: (dotted key, default or "", explanation)."""
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is not field.annotation:  # a section that may be null is an option too
            default = field.get_default(call_default_factory=True)
            shown = "" if field.is_required() else json.dumps(_plain(default))
            yield f"{prefix}{name}", shown, " ".join((field.description or "").split())
        if section is not None:
            yield from options_of(section, f"{prefix}{name}.")


def _explain(model: type[Options], problem: ErrorDetails) -> str:
    """One pydantic problem as `key: what is wrong; the nearest valid value is ...`."""
    keys = [str(key) for key in problem["loc"]]
    # pydantic adds the name of a mapping's key and of a union's arm to the place; users don't see them
    where = ".".join(key for key in keys if key != "[key]" and "[" not in key)
    given, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            near = nearest(keys[-1], list(_section(model, keys[:-1]).model_fields))
            return f"{where}: no such option" + (f"; did you mean {near}?" if near else _known(model, keys))
        case "missing" if keys[-1].isdigit():
            return f"{where.rpartition('.')[0]}: too short; write [first, last]"
        case "missing":
            return f"{where}: missing; write `{keys[-1]}: ...`"
        case "greater_than_equal" | "less_than_equal" as kind:
            limit = context["ge" if kind == "greater_than_equal" else "le"]
            return f"{where}: {given} is out of range; the nearest valid value is {limit}"
        case "greater_than" | "less_than" as kind:
            word, limit = ("above", context["gt"]) if kind == "greater_than" else ("below", context["lt"])
            return f"{where}: {given} is out of range; it must be {word} {limit:g}"
        case "literal_error":
            choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
            near = nearest(str(given), choices)
            tail = f"; did you mean {near}?" if near else "; write one of them"
            return f"{where}: {given} is none of {', '.join(choices)}{tail}"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
        case "int_from_float":
            return f"{where}: {given} is no whole number; the nearest valid value is {round(given)}"
        case "int_parsing" | "int_type":
            return f"{where}: {given} is no whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return f"{where}: {given} is no number that can be used; write one such as 1e-4"
        case "string_type":
            return f"{where}: {given} is no text; put it in quotes"
        case "tuple_type":
            wanted = "first, last" if {"unfrozen", "layers"} & set(keys) else given
            return f"{where}: {given} is no list; write [{wanted}]"
        case "too_short":
            return f"{where}: empty; name at least one"
        case "model_type" | "dict_type":
            shown = "empty" if given is None else f"{given} stands where options belong"
            return f"{where}: {shown}; leave `{keys[-1]}` out or write `option: value` lines below it"
        case "string_pattern_mismatch":
            signs = "letters, digits, dot, dash and underscore"
            return f"{where}: {given!r} has other signs than {signs}; leave them out"
        case _:
            return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]} (got {given!r})"


def _section(model: type[Options], keys: list[str]) -> type[Options]:
    for key in keys:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        model = _section_of(annotation) or model
    return model


def _section_of(annotation: Any) -> type[Options] | None:
    """The section that an option is, or may be: `Lora` of `Lora | None`; None for a plain value."""
    arms = [arm for arm in (annotation, *get_args(annotation)) if isinstance(arm, type)]
    return next((arm for arm in arms if issubclass(arm, Options)), None)


def _known(model: type[Options], keys: list[str]) -> str:
    return f"; known here: {', '.join(_section(model, keys[:-1]).model_fields)}"


def _plain(value: Any) -> Any:
    """The value in types that YAML has."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def to_yaml(data: dict[str, Any]) -> str:
    """YAML in the order given, short lists and mappings on one line."""
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=100))


def as_comment(text: str) -> str:
    """Each line behind a number sign."""
    return "".join(f"# {line}\n" for line in text.splitlines())


def short_digest(data: Any) -> str:
    """Content address of what JSON can hold, 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=8).hexdigest()

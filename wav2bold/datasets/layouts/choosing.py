"""What layouts share: which space to take, which TR to believe, and how they say what they leave out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from wav2bold.datasets.bold import header_tr_s
from wav2bold.datasets.files import closed_to_us, is_there
from wav2bold.errors import DataError, UserError
from wav2bold.pages.words import some

TR_TOLERANCE_S = 1e-3
"""Headers hold float32, and some tools round to the millisecond."""
Tell = Callable[[str], None]
"""Called with a sentence for every kind of recording that a layout leaves out on purpose."""

Refuse = Callable[[str, UserError], None]
"""Called with the name of a recording that can't be used, and why; what it doesn't raise goes on without."""


def unheard(sentence: str) -> None:
    """For whoever doesn't ask what was left out."""


def stop(_: str, error: UserError) -> None:
    """For whoever wants all recordings or none: the first that can't be used ends everything."""
    raise error


def refuse_closed(root: Path, closed: Sequence[Path], refuse: Refuse) -> None:
    """Tell `refuse` of each folder that may not be read: recordings in it would be passed over unseen."""
    for folder in closed:
        refuse(folder.relative_to(root).as_posix(), closed_to_us(folder))


def space_of(entities: Mapping[str, str]) -> str:
    """The space that a file's BIDS entities name: `fsaverage5`, or with its density `fsLR_den-91k`."""
    extra = [f"{key}-{entities[key]}" for key in ("res", "den") if key in entities]
    return "_".join([entities.get("space", "native"), *extra])


def choose_space(source: Path, there: Iterable[str], wanted: str | None) -> str:
    """The space to read: the wanted one, or the only one.

    Raises DataError if the wanted one isn't there, or several are and none was asked for.
    """
    spaces = sorted(set(there))
    if wanted is not None and wanted not in spaces:
        raise DataError(
            f"{source}: no recordings found in space {wanted} (there are {', '.join(spaces)})",
            "choose one of them with --space",
        )
    if wanted is None and len(spaces) > 1:
        raise DataError(
            f"{source}: recordings in {len(spaces)} spaces ({', '.join(spaces)})",
            f"pick one, as with --space {spaces[0]}",
        )
    return wanted or spaces[0]


FINDING = "finding recordings"
"""What `progress` is told while recordings are looked at, one by one."""
UNFETCHED = "not fetched yet (`datalad get`)"


def is_fetched(path: Path) -> bool:
    """Whether a file's bytes are here. DataLad leaves a link to nowhere for those that were not fetched."""
    return is_there(path)


def left_out(recordings: Sequence[str], why: str) -> str:
    """The sentence that tells of recordings that are passed over."""
    what = "1 recording" if len(recordings) == 1 else f"{len(recordings)} recordings"
    return f"{what} left out, {why}: {some(recordings)}"


def agreed_tr_s(path: Path, stated_s: float, where: str) -> float:
    """The TR that is stated for a BOLD file, in seconds, once its header doesn't contradict it.

    GIFTI has no field for it, and what some tools note in its metadata others pass on unread: it isn't asked.
    where: who states it.  Raises DataError if the two differ.
    """
    header_s = None if path.suffix == ".gii" else header_tr_s(path)
    if header_s is not None and abs(header_s - stated_s) > TR_TOLERANCE_S:
        raise DataError(
            f"{path}: its header says a TR of {header_s:g} s, {where} {stated_s:g} s",
            "set the wrong one of the two right",
        )
    return stated_s

"""A file holds the array that was asked for, in the type that was asked for, or is made again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from askers import ADDRESS, SHAPE, TRUTH, Counted, again, left_over, refuses, the_file
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wav2bold.config import StoredType
from wav2bold.errors import StudyError
from wav2bold.trainables import checked_arrays
from wav2bold.trainables.activations import ActivationStore

HALVES: list[StoredType] = ["bfloat16", "float16"]


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path / "store")


@pytest.fixture
def compute(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


# Types


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_a_tensor_is_rounded_as_torch_does_and_other_programs_read_the_same(
    tmp_path: Path, compute: Counted, dtype: StoredType
) -> None:
    store = ActivationStore(tmp_path / "store", dtype=dtype)
    truth = torch.from_numpy(TRUTH).to(getattr(torch, dtype))
    for opened in (store, store, again(store)):
        assert torch.equal(opened.tensor(ADDRESS, SHAPE, compute), truth)
    assert torch.equal(load_file(the_file(store))["activations"], truth)
    assert compute.times == 1


def test_types_do_not_share_files_and_an_array_is_exact_in_every_store(
    tmp_path: Path, compute: Counted
) -> None:
    stores = [ActivationStore(tmp_path / "store", dtype=dtype) for dtype in ("float32", *HALVES)]
    for _ in range(2):
        assert len({store.tensor(ADDRESS, SHAPE, compute).dtype for store in stores}) == 3
        for store in stores:
            np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 3


@pytest.mark.parametrize(
    ("dtype", "largest", "beyond", "said"),
    [
        (
            "float16",
            65_504.0,
            1e6,
            "float16 ends at 65504, an activation is 1e+06; write float32 or bfloat16",
        ),
        (
            "float16",
            65_504.0,
            -7e4,
            "float16 ends at 65504, an activation is -70000; write float32 or bfloat16",
        ),
        (
            "bfloat16",
            3.3895e38,
            3.4e38,
            "bfloat16 ends at 3.38953e+38, an activation is 3.4e+38; write float32",
        ),
    ],
)
def test_a_number_that_would_become_infinite_is_refused(
    tmp_path: Path, dtype: StoredType, largest: float, beyond: float, said: str
) -> None:
    store = ActivationStore(tmp_path / "store", dtype=dtype)
    fits = np.array([[largest, -largest], [np.inf, np.nan]], np.float32)
    kept = store.tensor({"of": "fits"}, (2, 2), lambda: iter([fits]))
    assert torch.isfinite(kept).tolist() == [[True, True], [False, False]]
    with pytest.raises(StudyError) as raised:
        store.tensor({"of": "more"}, (1, 2), lambda: iter([np.array([[0, beyond]], np.float32)]))
    assert str(raised.value) == f"activations.dtype: {said}"
    assert left_over(store) == []


# Damage


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 8)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def zeroed_in_its_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40:-20] = bytes(20)
    path.write_bytes(content)


def overwritten(path: Path) -> None:
    path.write_bytes((b"something else entirely" * 100)[: path.stat().st_size])


def replaced_by(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """A sound safetensors file of something else, with the metadata of this one."""

    def replace(path: Path) -> None:
        with safe_open(path, "pt") as file:
            tensor, metadata = file.get_tensor("activations").clone(), file.metadata()
        save_file({"activations": change(tensor)}, path, metadata)

    return replace


def of_another_address(path: Path) -> None:
    """An array of the same shape, sound in itself."""
    other = ActivationStore(path.parents[2] / "other")
    other.array(ADDRESS | {"of": "layer3"}, SHAPE, lambda: iter([-TRUTH]))
    shutil.copy(the_file(other), path)


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,
        cut_in_its_header,
        longer,
        emptied,
        zeroed,
        zeroed_in_its_middle,
        overwritten,
        pytest.param(replaced_by(lambda tensor: tensor[:5]), id="of_another_shape"),
        pytest.param(replaced_by(lambda tensor: tensor.double()), id="of_another_type"),
        pytest.param(replaced_by(lambda tensor: tensor.transpose(1, 2).contiguous()), id="turned"),
        of_another_address,
    ],
)
def test_a_damaged_file_is_made_again(
    store: ActivationStore, compute: Counted, damage: Callable[[Path], None]
) -> None:
    store.array(ADDRESS, SHAPE, compute)
    sound = the_file(store).read_bytes()
    damage(the_file(store))
    np.testing.assert_array_equal(again(store).array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 2
    assert the_file(store).read_bytes() == sound
    assert left_over(store) == []


def test_whichever_bit_of_a_file_is_flipped_it_is_noticed(
    store: ActivationStore, compute: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_arrays, "BLOCK", 50)  # several blocks, the last of them short
    store.array(ADDRESS, SHAPE, compute)
    sound = the_file(store).read_bytes()
    inode = the_file(store).stat().st_ino
    layout = checked_arrays.Layout(*_address_of(the_file(store)), "float32")
    with the_file(store).open("rb+", buffering=0) as file:
        for bit in range(8 * len(sound)):
            os.pwrite(file.fileno(), bytes([sound[bit // 8] ^ 1 << bit % 8]), bit // 8)
            assert checked_arrays.mapped(the_file(store), layout, {}) is None, bit
            os.pwrite(file.fileno(), sound[bit // 8 : bit // 8 + 1], bit // 8)
    np.testing.assert_array_equal(again(store).array(ADDRESS, SHAPE, refuses), TRUTH)
    assert the_file(store).stat().st_ino == inode


def _address_of(path: Path) -> tuple[str, tuple[int, ...]]:
    with safe_open(path, "np") as file:
        return file.metadata()["address"], tuple(file.get_slice("activations").get_shape())


def test_a_file_is_compared_with_its_checksums_once_by_each_store(
    store: ActivationStore, compute: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again if another has taken its place."""
    store.array(ADDRESS, SHAPE, compute)
    compared = []
    plain = checked_arrays._checksums
    monkeypatch.setattr(checked_arrays, "_checksums", lambda *given: compared.append(1) or plain(*given))
    late = again(store)
    for _ in range(3):
        store.array(ADDRESS, SHAPE, refuses)
        late.array(ADDRESS, SHAPE, refuses)
    assert len(compared) == 1
    held = the_file(store).open("rb")  # so that its inode can't be given to the copy
    shutil.copy(the_file(store), the_file(store).with_suffix(".copy"))
    the_file(store).with_suffix(".copy").replace(the_file(store))
    late.array(ADDRESS, SHAPE, refuses)
    assert len(compared) == 2
    held.close()

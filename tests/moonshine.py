"""Moonshine's published encoder (MIT), which the package `moonshine-voice` brings as ONNX Runtime has it."""

# The format: https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/flatbuffers/schema/ort.fbs

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from real_data import moonshine
from transformers import MoonshineConfig, Wav2Vec2FeatureExtractor
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 7: np.int64}
"""Of a tensor, by the schema's TensorDataType."""


@dataclass(frozen=True)
class Table:
    """A table of a flatbuffer, where it begins. Fields are named by their place in the schema."""

    data: bytes
    start: int

    def field(self, number: int) -> int | None:
        """Where a field is; None if it isn't there."""
        fields = self.start - struct.unpack_from("<i", self.data, self.start)[0]
        place = 4 + 2 * number
        if place >= struct.unpack_from("<H", self.data, fields)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, fields + place)[0]
        return self.start + offset if offset else None

    def below(self, number: int) -> Self:
        """The table that a field holds."""
        return type(self)(self.data, _followed(self.data, self.field(number)))

    def tables(self, number: int) -> list[Self]:
        return [type(self)(self.data, place) for place in self._places(number)]

    def number(self, number: int) -> int:
        """A 32-bit one; 0 where it is left out."""
        place = self.field(number)
        return 0 if place is None else int(struct.unpack_from("<i", self.data, place)[0])

    def text(self, number: int) -> str:
        return _text(self.data, _followed(self.data, self.field(number)))

    def texts(self, number: int) -> list[str]:
        return [_text(self.data, place) for place in self._places(number)]

    def array(self, number: int, kind: type[np.generic]) -> NDArray[np.generic]:
        place = self.field(number)
        if place is None:
            return np.zeros(0, kind)
        start = _followed(self.data, place)
        count = struct.unpack_from("<I", self.data, start)[0]
        return np.frombuffer(self.data, kind, count, start + 4)

    def _places(self, number: int) -> list[int]:
        place = self.field(number)
        if place is None:
            return []
        start = _followed(self.data, place)
        count = struct.unpack_from("<I", self.data, start)[0]
        return [_followed(self.data, start + 4 + 4 * one) for one in range(count)]


def _followed(data: bytes, place: int | None) -> int:
    assert place is not None, "the schema is another"
    return int(place + struct.unpack_from("<I", data, place)[0])


def _text(data: bytes, start: int) -> str:
    count = struct.unpack_from("<I", data, start)[0]
    return data[start + 4 : start + 4 + count].decode()


def published_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights by their names in `MoonshineEncoder`; those kept in 8 bits are made floats again."""
    data = path.read_bytes()
    graph = Table(data, _followed(data, 0)).below(1).below(7)
    tensors = {}
    for one in graph.tables(0):
        kind = TYPES.get(one.number(3))
        if kind is not None:
            tensors[one.text(0)] = one.array(4, np.uint8).view(kind).reshape(one.array(2, np.int64))
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(("weight", "bias", "weight_add_tensor")):
            found[name.removesuffix("_add_tensor")] = tensor
        elif name.startswith("onnx::Mul_"):
            found["groupnorm.weight"] = tensor[:, 0]
        elif name.startswith("onnx::Add_"):
            found["groupnorm.bias"] = tensor[:, 0]
    for node in graph.tables(2):
        name = node.text(0)
        if name.endswith("/MatMul_quant"):
            stem = next(each for each in node.texts(8) if each.endswith("_quantized") and each in tensors)
            base = stem.removesuffix("_quantized")
            exact = tensors[stem].astype(np.float32) - tensors[f"{base}_zero_point"].astype(np.float32)
            weight = exact * tensors[f"{base}_scale"]
            found[f"{name.removesuffix('/MatMul_quant').strip('/').replace('/', '.')}.weight"] = weight.T
    return {name: torch.from_numpy(np.array(tensor, np.float32)) for name, tensor in found.items()}


def save_moonshine(folder: Path, seed: int | None = None) -> Path:
    """Moonshine tiny's encoder as `save_pretrained` writes it: as published, or with random weights."""
    torch.manual_seed(seed or 0)
    encoder = MoonshineEncoder(MoonshineConfig())
    if seed is None:
        encoder.load_state_dict(published_weights(moonshine() / "encoder_model.ort"))
    encoder.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder

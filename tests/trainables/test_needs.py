"""What a refinement is said to take is what it takes."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech, volumes

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.needs import heard_in, memory_of, stored_bytes
from wav2bold.trainables.refine import Material, refine
from wav2bold.trainables.unfreezing import unfreeze

TRAIN, VALIDATION = ("bakery", "ferry"), ("library",)
SUBJECTS = ("sub-001", "sub-002")
LONGEST = 3
PLAIN = {"history": 2, "epochs": 1, "noise": "white", "warmup_steps": 1, "unfrozen": {"attention": (1, 1)}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Two people, one of whom lacks a story and began another between two volumes of the other's."""
    sounds = {story: speech(14 + number, number) for number, story in enumerate((*TRAIN, *VALIDATION))}
    bold = noise_listeners((*TRAIN, *VALIDATION), 14, 1.0, {"sub-001": 3, "sub-002": 2})
    del bold["sub-002", "bakery"]
    bold["sub-002", "ferry"] = volumes(np.random.default_rng(3).standard_normal((14, 2)), 1.0, onset_s=0.4)
    return on_disk(tmp_path_factory.mktemp("needs") / "shards", sounds, bold, 1.0)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    """Whose convolutions are computed for a window, and whose for a whole story."""
    folder = tmp_path_factory.mktemp("encoders")
    return {
        "base": load_encoder(str(save_small_wav2vec2(folder / "base"))),
        "large": load_encoder(str(save_small_wav2vec2(folder / "large", "large", do_normalize=False))),
    }


def array_bytes(folder: Path) -> int:
    """Of all safetensors files, by their own headers."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        begin, end = json.loads(data[8 : 8 + length])["activations"]["data_offsets"]
        assert len(data) - (end - begin) < 1000, "a header is less than a kilobyte"
        total += end - begin
    return total


@pytest.mark.parametrize("kind", ["base", "large"])
@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, "float32"),
        ({"unfrozen": {}}, "float32"),
        ({"unfrozen": {"conv": None}}, "float32"),
        ({"unfrozen": {"projection": None}, "history": 3}, "bfloat16"),
        ({"layers": "weighted", "pooling": "mean"}, "float16"),
        ({"context": "stretch", "stretch_s": 6.0}, "float32"),
        ({"context": "stretch", "unfrozen": {}}, "float32"),
        ({"objective": "pretrain"}, "float32"),
        ({"unfrozen": {}, "lora": {"rank": 2}}, "float32"),
    ],
    ids=str,
)
def test_the_store_holds_what_was_predicted(
    shards: Shards,
    encoders: dict[str, Encoder],
    kind: str,
    options: dict[str, Any],
    dtype: Any,
    tmp_path: Path,
) -> None:
    configuration = Configuration(**PLAIN | options)
    split = [heard_in(shards, SUBJECTS, stories, LONGEST) for stories in (TRAIN, VALIDATION)]
    predicted = stored_bytes(shards, encoders[kind], configuration, split, dtype)
    material = Material(
        encoders[kind],
        shards,
        ActivationStore(tmp_path / "store", None, dtype),
        *(windows(shards, SUBJECTS, stories, LONGEST) for stories in (TRAIN, VALIDATION)),
    )
    assert [heard.rows for heard in split] == [len(material.train), len(material.validation)]
    for _ in refine(material, configuration, 0):
        pass
    assert array_bytes(tmp_path / "store") == predicted


@pytest.mark.parametrize(
    "options",
    [{}, {"unfrozen": {"layer_norm": None}}, {"lora": {"rank": 3, "layers": (1, 2)}}, {"layers": 2}],
)
def test_what_an_encoder_takes_is_counted_as_it_is_trained(
    shards: Shards, encoders: dict[str, Encoder], options: dict[str, Any]
) -> None:
    configuration = Configuration(**{"history": 2} | options)
    split = [heard_in(shards, SUBJECTS, stories, LONGEST) for stories in (TRAIN, VALIDATION)]
    model = unfreeze(encoders["base"], configuration).model
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    whole = sum(each.numel() for each in encoders["base"].model.parameters())
    assert trained > 0
    found = memory_of(shards, encoders["base"], configuration, *split)
    assert found.encoder == 4 * (4 * whole + 3 * trained)


RUN = """
import sys
from pathlib import Path
import torch
import wav2bold.tuning.trial
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from wav2bold.config import Configuration
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.needs import heard_in, memory_of
from wav2bold.trainables.refine import Material, refine

torch.set_num_threads(1)
folder, stories, who = Path(sys.argv[1]), ("bakery", "ferry", "library"), ("sub-001",)
sounds = {story: speech(24, number) for number, story in enumerate(stories)}
shards = on_disk(folder / "shards", sounds, noise_listeners(stories, 24, 1.0, {"sub-001": 4}), 1.0)
wide = save_small_wav2vec2(folder / "encoder", conv_dim=(256,) * 7)
encoder = load_encoder(str(wide))
configuration = Configuration(history=8, epochs=1, noise="white", unfrozen={"attention": (2, 2)})
split = [heard_in(shards, who, some, 8) for some in (stories[:2], stories[2:])]
print(memory_of(shards, encoder, configuration, *split).total)
heard = (windows(shards, who, some, 8) for some in (stories[:2], stories[2:]))
for _ in refine(Material(encoder, shards, ActivationStore(folder / "store"), *heard), configuration, 0):
    pass
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_a_process_holds_as_much_as_was_predicted(tmp_path: Path) -> None:
    """Its own peak, of which libraries are less than half."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    predicted, held = map(int, done.stdout.split())
    assert held > 1.4e9
    assert predicted == pytest.approx(held, rel=0.2)

"""What is told of targets is what the shards say of each person's, in the order of their prediction."""

from pathlib import Path

import numpy as np
import pandas as pd
from listeners import noise_listeners, on_disk, speech
from refining import HISTORY

from wav2bold.datasets.shards import targets_path
from wav2bold.datasets.windows import windows
from wav2bold.datasets.writing import write_targets
from wav2bold.trainables.people import targets_of


def test_ceilings_stand_in_the_columns_of_those_whose_they_are(tmp_path: Path) -> None:
    bold = noise_listeners(["ferry"], 20.0, 1.0, {"sub-001": 3, "sub-002": 2})
    shards = on_disk(tmp_path, {"ferry": speech(20.0, 0)}, bold, 1.0)
    for subject, ceiling in {"sub-001": [0.5, np.nan, 0.7], "sub-002": [0.0, 0.2]}.items():
        table = pd.DataFrame({"target": range(len(ceiling)), "ceiling": np.float32(ceiling)})
        write_targets(targets_path(tmp_path, subject), table, {})
    some = windows(shards, ["sub-002", "sub-001"], ["ferry"], HISTORY)
    told = targets_of(shards, some.subject)
    assert told["subject"].to_pylist() == some.subject.tolist()
    assert told["target"].to_pylist() == [0, 1, 0, 1, 2]
    np.testing.assert_array_equal(told["ceiling"].to_numpy(), np.float32([0, 0.2, 0.5, np.nan, 0.7]))

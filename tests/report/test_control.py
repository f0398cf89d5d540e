"""The control that hears the stimuli alone is one command away from any configuration."""

from pathlib import Path
from typing import Any

import made_up
import pytest

from wav2bold import steps
from wav2bold.config import Configuration
from wav2bold.errors import StudyError
from wav2bold.tuning import subjects


def test_the_control_changes_nothing_but_the_objective_and_takes_nobodys_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(subjects, "refine", lambda *given: asked.append(given))
    study = made_up.findings().study.model_copy(update={"results": tmp_path})
    best = Configuration(history=3, encoder_lr=1e-3)
    steps.refine(study, best, pretrain=True)
    steps.refine(study, best)
    (_, control, _, place, *_), (_, plain, _, other, *_) = asked
    assert control == best.model_copy(update={"objective": "pretrain"})
    assert plain == best
    assert (place, other) == (tmp_path / "pretrained", tmp_path / "refined")


def test_a_head_alone_has_no_control(tmp_path: Path) -> None:
    study = made_up.findings().study.model_copy(update={"results": tmp_path})
    with pytest.raises(StudyError, match="trains the head alone; give one that refines the encoder"):
        steps.refine(study, Configuration(unfrozen={}), pretrain=True)

"""The methods section follows the study file: what it trains, for how long, and what a sweep varies."""

import dataclasses
from html import unescape
from typing import Any

import made_up
import pytest

from wav2bold.config import Configuration, Search
from wav2bold.report.findings import Findings
from wav2bold.report.methods import methods
from wav2bold.report.page import render


@pytest.fixture(scope="module")
def findings() -> Findings:
    return made_up.findings(1, "T1w", 20, 1)


def studied(findings: Findings, **changed: object) -> Findings:
    return dataclasses.replace(findings, study=findings.study.model_copy(update=changed))


@pytest.mark.parametrize(
    ("option", "choice", "said"),
    [
        ("heard", {"context": "stretch", "stretch_s": 45}, "The encoder heard 45 s at once, for all volumes"),
        (
            "stage1",
            {"stage1": "adam", "noise": "white"},
            ", from which Adam then descends to the same minimum",
        ),
        (
            "stage2_trains",
            {"lora": {"rank": 4, "targets": ["attention"]}},
            "rank 4, alpha 16) on its attention",
        ),
        ("training", {"epochs": 3, "batch": 5}, "at most 3 epochs in batches of 5 windows, linear warm-up"),
        (
            "training",
            {"warmup_steps": 33, "clip": 0.7},
            "over 33 steps, cosine decay, gradients clipped at a norm",
        ),
        ("beside", {"input_noise": 0.4}, " Noise of 0.4 times each feature's spread is added where"),
        ("beside", {"weight_by_ceiling": True}, " Each target counts by the square of its noise ceiling."),
        (
            "beside",
            {"anchor_l2": 0.02, "weight_decay": 0.01},
            "is penalised by 0.02; the encoder's weights decay",
        ),
        ("beside", {"patience": 2}, " Stage 2 ends after 2 epochs without a better score."),
    ],
)
def test_what_the_study_file_changes_is_told(
    findings: Findings, option: str, choice: dict[str, Any], said: str
) -> None:
    chosen = Configuration.model_validate(choice)
    assert said in methods(studied(findings, configuration=chosen))[option]
    assert said not in methods(findings)[option]


def test_the_control_has_no_part_in_what_only_bold_decides(findings: Findings) -> None:
    chosen = Configuration(objective="pretrain", input_noise=0.4, weight_by_ceiling=True, patience=2)
    assert methods(studied(findings, configuration=chosen))["beside"] == ""


def test_what_the_space_varies_of_training_is_told_as_the_best_has_it(findings: Findings) -> None:
    (trial,) = findings.trials
    best = dataclasses.replace(trial, configuration=Configuration(epochs=9, batch=3))
    varied = Search.model_validate({"space": {"epochs": {"low": 2, "high": 9}}})
    facts = methods(studied(dataclasses.replace(findings, trials=(best,)), search=varied))
    assert "at most 9 epochs in batches of 8 windows" in facts["training"]
    assert "at most 6 epochs" in methods(dataclasses.replace(findings, trials=(best,)))["training"]


FIXED = {"low": 1e-3, "high": 1e-3}


@pytest.mark.parametrize(
    ("varied", "said"),
    [
        (
            {},
            (
                "history (1 to 10 TRs), parameter types to refine (any of 3), their layers, the encoder's "
                "learning rate (1e-05 to 0.001), the penalty on the head (0.3 to 3) and the head's learning "
                "rate (3e-05 to 0.003)"
            ),
        ),
        (
            {
                "history": {"low": 4, "high": 4},
                "unfrozen": None,
                "ranges": "own",
                "pooling": ["tr", "lanczos"],
            }
            | {"head_l2": FIXED, "head_lr": FIXED, "encoder_lr": {"low": 1e-3, "high": 1e-2}}
            | {"epochs": {"low": 2, "high": 9}},
            (
                "how frames are brought to TRs (2 ways), the encoder's learning rate (0.001 to 0.01) and "
                "epochs (2 to 9)"
            ),
        ),
    ],
    ids=["default", "other"],
)
def test_what_the_sweep_varied_is_told_and_nothing_else(
    findings: Findings, varied: dict[str, Any], said: str
) -> None:
    search = Search.model_validate({"space": varied})
    assert methods(studied(findings, search=search))["varied"] == said


def test_the_page_says_all_of_it_in_its_methods(findings: Findings) -> None:
    chosen = Configuration(input_noise=0.4, lora={"rank": 4}, context="stretch")
    regions = {"parcellation": ["labels.nii.gz"], "average": True, "min_ceiling": 0.2}
    found = studied(findings, configuration=chosen)
    found = dataclasses.replace(found, card=dataclasses.replace(found.card, targets=regions))
    page = unescape(" ".join(render(found).split()))
    assert "(20 targets, means of regions, those whose noise ceiling is 0.2 or more, space T1w" in page
    assert "who heard 5 stories (25 min)." in page
    assert "the TRs up to it, 6 TRs in the best configuration. The encoder heard 60 s at once" in page
    facts = methods(found)
    for name in ("stage2_trains", "training", "beside", "varied"):
        assert facts[name] in page, name

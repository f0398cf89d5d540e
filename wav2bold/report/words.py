"""The report's sentences, made from the numbers."""

import math
from collections.abc import Sequence

import numpy as np

from wav2bold.config import Configuration
from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.evaluation.intervals import Interval
from wav2bold.pages.words import MINUS, count, listed, score, signed, simulated_note, some, span
from wav2bold.report.findings import Findings
from wav2bold.report.standing import COMMANDS
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.scores import Gain, brain_score
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.trial_words import layers, unfrozen

SURE = 0.05


def p_value(gain: Gain) -> str:
    """A p value: never 0, never more digits than it has."""
    if not math.isfinite(gain.p):
        return "\N{EN DASH}"
    return "< 0.001" if gain.p < 0.001 else f"{gain.p:.3f}"


def _p(p: float) -> str:
    """The same in a sentence."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def interval(found: Interval, between: str = " to ") -> str:
    """Both ends of a difference's interval; an en dash where there is none."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "\N{EN DASH}"
    return f"{signed(found.low)}{between}{signed(found.high)}"


def percent(part: float, whole: float) -> str:
    """A share of the noise ceiling; words where there is none."""
    if not (math.isfinite(part) and math.isfinite(whole) and whole > 0):
        return "no repeats" if not math.isfinite(whole) else "\N{EN DASH}"
    return f"{100 * part / whole:.0f}%".replace("-", MINUS)


def mean(values: Sequence[float]) -> float:
    """Mean of the finite ones; NaN if there is none."""
    return brain_score(np.asarray(values, np.float64))


def answer(findings: Findings) -> list[str]:
    """What came out, one sentence each; where nothing is tested, how it would be."""
    best = list(findings.best.values())
    if not best:
        nothing = (
            "No encoder is refined with the best configuration yet, so there are no scores on the test "
            "stories: this page shows the sweep alone."
        )
        return [
            nothing,
            f"To refine the encoder for every subject and test it: {COMMANDS}, and this report again.",
        ]
    before, after = mean([one.scores["frozen"] for one in best]), mean([one.scores["ridge"] for one in best])
    kept_frozen = [one.subject for one in best if _is_frozen(one)]
    gain = mean([one.gain_ridge.gain for one in best])
    verb = "raised" if gain > 0 else "lowered" if gain < 0 else "did not change"
    whose = "the subject's" if len(best) == 1 else f"the {len(best)} subjects' mean"
    story = _stories(findings.stories.test)
    first = (
        f"On the held-out {story}, refining the encoder {verb} {whose} brain score from {score(before)} to "
        f"{score(after)} (gain {signed(gain)}), with a ridge fitted afresh on the refined encoder."
    )
    if len(kept_frozen) == len(best):
        said = [_nothing_kept(findings, before)]
    else:
        said = [f"{first} {_certainty(best)}"]
        if kept_frozen:
            told = _frozen_kept(kept_frozen)
            said.append(f"{told[0].upper()}{told[1:]}: their gain of 0 is no measurement.")
    ceilings = {one.subject: brain_score(findings.ceiling(one.subject)) for one in best}
    known = [one for one in best if math.isfinite(ceilings[one.subject])]
    if known:
        top = mean(list(ceilings.values()))
        shares = [percent(mean([one.scores[name] for one in known]), top) for name in ("frozen", "ridge")]
        where = "" if len(known) == len(best) else f", in the {count(len(known), 'subject')} that have one"
        said.append(
            f"The noise ceiling is {score(top)} on average: the score went from {shares[0]} to "
            f"{shares[1]} of it{where}."
        )
    heads = [one.gain_head for one in best]
    said.append(
        f"With the head that was trained together with the encoder, in place of the fresh ridge, the gain is "
        f"{signed(mean([one.gain for one in heads]))} "
        f"({_how_sure(heads, [one.intervals['gain_head'] for one in best])})."
    )
    if findings.winner.number == 0:
        said.append("The best configuration is the paper's own, the first of the sweep.")
    elif findings.paper:
        papers = list(findings.paper.values())
        gains = [one.gain_ridge for one in papers]
        sure = "the frozen encoder was kept, since no epoch bettered it"
        if not all(map(_is_frozen, papers)):
            sure = _how_sure(gains, [one.intervals["gain_ridge"] for one in papers])
        said.append(
            f"The paper's configuration gives {signed(mean([one.gain for one in gains]))} in "
            f"{count(len(papers), 'subject')} (fresh ridge; {sure})."
        )
    else:
        said.append("The paper's configuration was not refined, so there is no comparison with it here.")
    if findings.pretrained:
        said.append(_beside_control(findings))
    return said


def data_note(findings: Findings) -> str:
    """A warning if the recordings are simulated in whole or in part; else empty."""
    return simulated_note(dataset_name(findings), findings.study.name)


def dataset_name(findings: Findings) -> str:
    """What the recordings call themselves; empty if the card doesn't say."""
    return findings.card.name


def mismatch(findings: Findings) -> str:
    """A warning if the encoders were refined with another configuration than the sweep's best; else empty."""
    digest = findings.winner.configuration.digest
    origins = {subject: origin_of(one.folder) for subject, one in findings.best.items()}
    other = [name for name, origin in origins.items() if origin and origin["configuration"] != digest]
    if not other:
        return ""
    whose = f"the encoders of {some(other)}" if len(other) < len(origins) else "all encoders"
    return (
        f"{whose[:1].upper()}{whose[1:]} were refined with another configuration than the best of the newest "
        "sweep, which is the one shown under that name."
    )


def before_stage2(trial: Trial) -> str:
    """Said of a score that a trial had before it touched the encoder, and never bettered; else empty."""
    touched = trial.reduce is None and trial.configuration.keeps_best and len(trial.scores) > 1
    if not (touched and trial.best_score <= trial.scores[0]):
        return ""
    return ", that of the frozen encoder: no epoch of refinement bettered it"


def configuration(chosen: Configuration, tr_s: float) -> str:
    """What a configuration does, in a sentence."""
    heard = f"It hears {count(chosen.history, 'TR')} of audio ({chosen.history * tr_s:g} s)"
    times = "" if chosen.head_l2 == 1 else f"{chosen.head_l2:.3g} times "
    penalty = f"the head's penalty is {times}the cross-validated one"
    if not chosen.refines:
        return f"{heard} and refines no part of the encoder: only the head is fitted; {penalty}."
    done = "refines"
    if chosen.objective == "pretrain":
        done = "continues, on the training stories' sound alone, the pre-training of"
    return (
        f"{heard} and {done} {unfrozen(chosen)}, {layers(chosen)}, for {count(chosen.epochs, 'epoch')} "
        f"with a "
        f"learning rate of {chosen.encoder_lr:.2g}; {penalty}."
    )


def _certainty(best: Sequence[Evaluation]) -> str:
    """In how many subjects the score rose, and in how many by more than chance explains."""
    sure = [one.gain_ridge.gain > 0 and one.gain_ridge.p < SURE for one in best]
    if len(best) == 1:
        p = _p(best[0].gain_ridge.p)
        return (
            f"Its 95% interval is {interval(best[0].intervals['gain_ridge'])}. "
            f"Chance {'does not explain' if sure[0] else 'can explain'} that (p {p}, one-sided sign-flip "
            f"test over {best[0].gain_ridge.blocks} blocks of time; {_how_many(best)})."
        )
    told = summary([one.gain_ridge.gain for one in best])
    rose = sum(one.gain_ridge.gain > 0 for one in best)
    return (
        f"The score rose in {rose} of {count(len(best), 'subject')}, and in {sum(sure)} of {len(best)} by "
        f"more than chance explains (p < {SURE:g}, one-sided sign-flip test over blocks of time, each "
        f"subject by itself; {_how_many(best)}). Over subjects the mean gain's "
        f"95% interval is {interval(told.mean)} (Student's t; one-sided Wilcoxon p {_p(told.p)})."
    )


def _how_many(some: Sequence[Evaluation]) -> str:
    """Targets and volumes of each subject's test."""
    targets, volumes = span(len(one.frozen) for one in some), span(one.volumes for one in some)
    return f"{targets} targets, {volumes} volumes" + (" each" if len(some) > 1 else "")


def _how_sure(gains: Sequence[Gain], intervals: Sequence[Interval]) -> str:
    """Interval, test and p of a mean gain: over blocks of time of one subject, over subjects of several."""
    if len(gains) == 1:
        return (
            f"95% interval {interval(intervals[0])}; one-sided sign-flip test over blocks, p {_p(gains[0].p)}"
        )
    return _over_subjects([one.gain for one in gains])


def _over_subjects(values: Sequence[float]) -> str:
    """Interval, test and p of a mean over several subjects."""
    told = summary(values)
    return f"95% interval over subjects {interval(told.mean)}, Student's t; one-sided Wilcoxon p {_p(told.p)}"


def _is_frozen(one: Evaluation) -> bool:
    """Whether what was kept is the frozen encoder: no epoch bettered it."""
    return np.allclose(one.ridge, one.frozen, rtol=0, atol=1e-9, equal_nan=True)


def _nothing_kept(findings: Findings, score_before: float) -> str:
    """In place of a comparison of the frozen encoder with itself, whose interval would have no width."""
    names = list(findings.best)
    whose = "the subject's" if len(names) == 1 else f"the {len(names)} subjects' mean"
    why = f"Refinement brought nothing: {_frozen_kept(names)}"
    if not findings.winner.configuration.refines:
        why = "Nothing was refined: the best configuration fits the head alone"
    return (
        f"{why}. On the held-out "
        f"{_stories(findings.stories.test)} {whose} brain score is {score(score_before)}, before and after, "
        "with a fresh ridge."
    )


def _frozen_kept(names: Sequence[str]) -> str:
    """Whose best epoch was the one before the encoder was touched."""
    return (
        f"in {some(names)} no epoch of refinement bettered the frozen encoder on the validation stories, and "
        "the frozen one was kept"
    )


def _beside_control(findings: Findings) -> str:
    """How much the brain has a part in: refined encoders beside those trained on the stimuli alone."""
    both = [name for name in findings.best if name in findings.pretrained]
    gains = [findings.pretrained[name].gain_ridge.gain for name in both]
    more = [findings.best[name].scores["ridge"] - findings.pretrained[name].scores["ridge"] for name in both]
    sure = f" ({_over_subjects(more)})" if len(both) > 1 else ""
    return (
        f"The control, pre-training that goes on with the training stories' sound and without BOLD, gives "
        f"{signed(mean(gains))} in {count(len(both), 'subject')}; refined encoders score "
        f"{signed(mean(more))} beside it{sure}."
    )


def _stories(names: Sequence[str]) -> str:
    return ("story " if len(names) == 1 else "stories ") + listed(names)

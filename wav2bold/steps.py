"""The steps from recordings to a report, as Python functions; the command calls the same ones.

`import wav2bold` gives them: `wav2bold.sweep("study.yaml")`. A study is a `Study` or its file, and
nothing heavy is imported before a step is taken and its study has been read.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wav2bold.config import Cleaning, Configuration, Simulation, Study, Targets
from wav2bold.errors import DataError, StudyError
from wav2bold.imports import importing
from wav2bold.options import check_file, check_folder, read_yaml, write_whole
from wav2bold.places import AnyPlace, check_reachable, place
from wav2bold.progress import Progress, silent

if TYPE_CHECKING:
    from wav2bold.datasets.inspecting.facts import Facts
    from wav2bold.datasets.layouts.known import Found
    from wav2bold.datasets.prepare import Prepared
    from wav2bold.datasets.simulate import Truth
    from wav2bold.evaluation.evaluated import Beyond, Scored
    from wav2bold.evaluation.minutes import Efficiency
    from wav2bold.report.findings import Findings
    from wav2bold.trainables.superb.protocol import Options
    from wav2bold.tuning.registry import Registered
    from wav2bold.tuning.remembered import Remembered, Trial
    from wav2bold.tuning.subjects import RefinedSubjects
    from wav2bold.tuning.superb import Benchmarked
    from wav2bold.tuning.sweep import Swept

AnyPath = str | os.PathLike[str]
AnyStudy = Study | AnyPath
RESULTS_CURE = "choose another folder as `results` in the study file"


def simulate(
    out: AnyPath,
    options: Simulation | None = None,
    speech: AnyPath | None = None,
    noise: AnyPath | None = None,
    progress: Progress = silent,
) -> "Truth":
    """Write the embedded dataset into the new folder `out`; gives what is known of it.

    speech: folder of recordings to make stories of.  noise: file of real resting-state BOLD.
    """
    check_folder(Path(out), "choose another folder")
    with importing():
        from wav2bold.datasets import simulate as step

    return step.simulate(Path(out), options or Simulation(), _path(speech), _path(noise), progress)


def prepare(
    recordings: AnyPath,
    out: AnyPlace,
    cleaning: Cleaning | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    layout: str | None = None,
    space: str | None = None,
    targets: Targets | None = None,
    *,
    strict: bool = False,
) -> "Prepared":
    """Write recordings as shards into `out`, and a study file beside it unless there is one.

    recordings: a folder, or a manifest (.tsv).  layout: None recognises it.  space: which to take where
    recordings were written in several.
    out: a folder, or a URL such as s3://bucket/folder; the study file is then in the working folder.
    cleaning, targets: None takes them from that study file. Only what is missing or changed is written. The
    stories that its split tests on take no part in noise ceilings.
    strict: whether the first recording that can't be used ends everything, before anything is written.
    Otherwise the others are done and `failed` tells of it.
    """
    recordings, out = Path(recordings), place(out)
    if isinstance(out, Path):
        check_folder(out)
    else:
        check_reachable(out)
    with importing():
        from wav2bold.cluster.connect import connected
        from wav2bold.datasets import prepare as step
        from wav2bold.datasets.layouts.known import layout_of
        from wav2bold.datasets.starter import begin_study, study_for
        from wav2bold.datasets.writing import check_ours

    check_ours(out)  # these two before a Ray is started, which takes seconds
    layout_of(recordings, layout)
    study = study_for(recordings, out)
    cleaning = cleaning or (study.cleaning if study else Cleaning())
    targets = targets or (study.targets if study else Targets())
    with connected(address, cpus):
        split = study.split if study else None
        prepared = step.prepare(
            recordings, out, cleaning, progress, targets, split, layout, space, strict=strict
        )
    try:
        begin_study(recordings, out, prepared.card)
    except DataError as error:
        if not prepared.failed:
            raise
        return replace(prepared, failed=(*prepared.failed, ("study.yaml", str(error))))
    return prepared


def manifest(
    recordings: AnyPath, layout: str | None = None, space: str | None = None, progress: Progress = silent
) -> tuple[str, "Found"]:
    """The recordings that `prepare` would read, as the text of a manifest, and how they were found."""
    from wav2bold.datasets.layouts.choosing import stop
    from wav2bold.datasets.layouts.known import find
    from wav2bold.datasets.layouts.manifest import as_manifest

    found = find(Path(recordings), layout, space, stop, progress)
    return as_manifest(found.runs), found


def inspect(shards: AnyPlace, out: AnyPath | None = None, progress: Progress = silent) -> "Facts":
    """What the shards in a folder, or at a URL, hold; `out` gets the quality page."""
    if out is not None:
        check_file(Path(out))
    with inspecting(shards, page=out is not None) as (facts, write):
        if out is not None:
            write(Path(out), progress)
    return facts


@contextmanager
def inspecting(shards: AnyPlace, *, page: bool) -> "Iterator[tuple[Facts, Callable[[Path, Progress], None]]]":
    """What the shards hold, and a function that writes the quality page.

    page: whether it will be written: what draws brains then gets ready while the facts are read.
    """
    from wav2bold.pages.painter import Painter

    with Painter() as painter:
        if page:
            painter.begin()
        with importing():
            from wav2bold.datasets.inspecting import inspection as step
            from wav2bold.datasets.shards import open_shards

        opened = open_shards(place(shards))
        facts = step.inspect(opened)

        def write(out: Path, progress: Progress) -> None:
            check_file(out)
            from wav2bold.datasets.inspecting.quality import render

            write_whole(out, render(opened, facts, painter, progress))

        yield facts, write


def sweep(
    study: AnyStudy,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    resume: bool = False,
    warm_start: str | None = None,
) -> "Swept":
    """Search for the configuration with the highest brain score; every trial is an MLflow run.

    resume: go on with the newest sweep, whatever ended it.  warm_start: name of the experiment whose newest
    sweep the sampler learns from.
    """
    study = _study(study)
    check_folder(study.results, RESULTS_CURE)
    with importing():
        from wav2bold.tuning import sweep as step

    return step.sweep(study, address, cpus, progress, resume=resume, warm_start=warm_start)


def best(study: AnyStudy, out: AnyPath | None = None, where: str | None = None) -> "Trial":
    """The best trial of the newest sweep, from MLflow; `out` gets its configuration as YAML.

    where: a filter of MLflow's that it must pass, such as "params.history_tr = '6'".
    """
    study = _study(study)
    if out is not None:
        check_file(Path(out))
    with importing():
        from wav2bold.tuning import best as step

    return step.best(study, _path(out), where)


def ranked(study: AnyStudy, where: str | None = None, *, pareto: bool = False) -> "list[Trial]":
    """Finished trials of the newest sweep, the best first.

    pareto: only those than which no other scores as high and has less of `search.second_goal`.
    """
    study = _study(study)
    with importing():
        from wav2bold.tuning import best as step
        from wav2bold.tuning.goals import second_goal

    trials = step.ranked(study, where)
    return step.pareto(trials, second_goal(study)) if pareto else trials


def certainty(study: AnyStudy, trial: "Trial") -> str:
    """How sure it is that the newest sweep's best trial betters its first, the paper's; "" of any other."""
    study = _study(study)
    with importing():
        from wav2bold.tuning import best as step

    return step.certainty(study, trial)


def runs(study: AnyStudy) -> "list[Remembered]":
    """All sweeps and refinements of a study that MLflow remembers, the newest first."""
    with importing():
        from wav2bold.tuning.outbox import opened

    return opened(_study(study), make=False).remembered()


def compare(study: AnyStudy, one: str, other: str) -> "tuple[Trial, Trial]":
    """Two trials, each by its number in the newest sweep or by the beginning of its run's id."""
    study = _study(study)
    with importing():
        from wav2bold.tuning.listing import trial_named
        from wav2bold.tuning.outbox import opened

    tracker = opened(study, make=False)
    return trial_named(study.name, tracker, one), trial_named(study.name, tracker, other)


def refine(
    study: AnyStudy,
    config: Configuration | AnyPath = "paper",
    subjects: Sequence[str] | None = None,
    out: AnyPath | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    subsets: AnyPath | None = None,
    model: str | None = None,
    pretrain: bool = False,
) -> "RefinedSubjects":
    """Refine the encoder for each subject by itself, into `out/<subject>/`.

    config: a configuration, a file that `best` wrote, or "paper" for the study's own.
    subjects: None for all.  out: default `refined`, `refined-paper`, or `pretrained` for the control of that
    objective, in the study's results.
    subsets: a YAML file, `name: {type: range}`, or "each" for every parameter type in every layer: one
    refinement for each of them, into `out/<subset>/<subject>/`; the default `out` then ends in `-subsets`.
    model: name under which the encoders go into MLflow's model registry; the best is its champion.
    pretrain: make the control in place of a refinement: the same configuration with `objective: pretrain`.
    """
    study = _study(study)
    paper = isinstance(config, str) and config == "paper"
    config = _chosen(study, config)
    if pretrain and not config.refines:
        raise StudyError(
            "--pretrain: the configuration trains the head alone", "give one that refines the encoder"
        )
    if pretrain:
        config = config.model_copy(update={"objective": "pretrain"})
    check_folder(study.results, RESULTS_CURE)
    if out is not None:
        check_folder(Path(out))
    with importing():
        from wav2bold.tuning import subjects as step

    default = study.results / ("refined-paper" if paper else "refined")
    if config.objective == "pretrain":
        default = study.results / "pretrained"  # the control takes nobody's place
    if subsets is not None:
        default = default.with_name(f"{default.name}-subsets")
        subsets = "each" if subsets == "each" else Path(subsets)
    return step.refine(
        study, config, subjects, _path(out) or default, address, cpus, progress, subsets, model
    )


def register(study: AnyStudy, model: str, configuration: Configuration) -> "Registered":
    """Put the encoders refined with a configuration into MLflow's model registry; the best is the champion.

    model: its name there. Which encoders there are is asked of MLflow alone.
    """
    study = _study(study)
    from wav2bold.tuning import registry as step
    from wav2bold.tuning.outbox import opened

    step.check_name(model)
    return step.register(opened(study, make=False), model, configuration)


def report(
    study: AnyStudy,
    out: AnyPath,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    layers: bool = True,
    interactive: bool = True,
    superb: AnyPath | None = None,
) -> "Findings":
    """Score the refined encoders on the test stories and write the page; gives all numbers in it.

    layers: whether every hidden state is scored, too.  interactive: whether figures can be explored in a
    browser, beside the printed ones.  superb: the folder that `superb` wrote, to show it.
    """
    study = _study(study)
    check_file(Path(out))
    with importing():
        from wav2bold.report import report as step

    spoken = None if superb is None else Path(superb)
    return step.report(
        study, Path(out), address, cpus, progress, layers=layers, interactive=interactive, superb=spoken
    )


def efficiency(
    study: AnyStudy,
    subject: str,
    config: Configuration | AnyPath = "paper",
    minutes: Sequence[float] | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
) -> "Efficiency":
    """Brain score of one subject against minutes of their data, of three encoders, and what that saves.

    The encoder as it came; refined on all other subjects; and then on so many minutes of the subject.
    config: as for `refine`.  minutes: None for all there are, their half, a quarter and an eighth.
    """
    study = _study(study)
    config = _chosen(study, config)
    check_folder(study.results, RESULTS_CURE)
    with importing():
        from wav2bold.tuning import efficiency as step

    return step.efficiency(study, subject, config, minutes, address, cpus, progress)


def score(
    study: AnyStudy,
    encoders: Sequence[AnyPath] = (),
    shards: AnyPlace | None = None,
    subjects: Sequence[str] | None = None,
    *,
    random_weights: bool = False,
    shift_bold: bool = False,
    bold_of: str | None = None,
    by_layer: bool = False,
    by_region: bool = False,
    out: AnyPath | None = None,
    picture: AnyPath | None = None,
    progress: Progress = silent,
) -> "list[Scored]":
    """Brain scores of encoders on the test stories, each with a ridge fitted on the training stories.

    encoders: folders, refined or not, or hub names; none: the study's own.  shards: others than the study's;
    their split is that of the study file beside them.  subjects: None for all.
    Controls: random_weights in place of the encoders' own; shift_bold moves BOLD by half of each story;
    bold_of compares predictions with another subject's BOLD.
    by_layer: every hidden state by itself.  by_region: each region of targets, too.
    out: gets r, its share of the ceiling, R2, p and whether it is significant of every target, as Parquet.
    picture: an SVG, PNG or PDF of the scores, as `drawing.draw` says.
    """
    study = _study(study)
    if out is not None:
        check_file(Path(out))
    if picture is not None:
        from wav2bold.evaluation.drawing import draw, refuse_format

        refuse_format(Path(picture))
        check_file(Path(picture))
    check_folder(study.results, RESULTS_CURE)
    with importing():
        from wav2bold.tuning import score as step

    found = step.score(
        study,
        tuple(map(str, encoders)),
        None if shards is None else place(shards),
        subjects,
        step.Control(random_weights, shift_bold, bold_of),
        by_layer=by_layer,
        by_region=by_region,
        progress=progress,
    )
    if out is not None:
        from wav2bold.evaluation.per_target import write_per_target

        rows = [(one.encoder, one.subject, one.layer, one.per_target) for one in found if one.per_target]
        write_per_target(Path(out), rows)
    if picture is not None:
        draw(found, Path(picture))
    return found


def score_beyond(
    study: AnyStudy,
    encoders: Sequence[AnyPath] = (),
    shards: AnyPlace | None = None,
    subjects: Sequence[str] | None = None,
    *,
    random_weights: bool = False,
    shift_bold: bool = False,
    bold_of: str | None = None,
    progress: Progress = silent,
) -> "list[Beyond]":
    """What encoders explain of the test stories beyond log-mel energies and the envelope; see `score`."""
    study = _study(study)
    check_folder(study.results, RESULTS_CURE)
    with importing():
        from wav2bold.tuning import score as step

    return step.score_beyond(
        study,
        tuple(map(str, encoders)),
        None if shards is None else place(shards),
        subjects,
        step.Control(random_weights, shift_bold, bold_of),
        progress,
    )


def superb(
    encoders: Sequence[AnyPath],
    tasks: Sequence[str],
    data: AnyPath,
    out: AnyPath,
    options: "Options | None" = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    cpus_per_task: int = 1,
    gpus_per_task: float = 0,
    max_gb: float | None = None,
) -> "Benchmarked":
    """Scores of encoders in SUPERB's speech tasks, each frozen; change is against the first one.

    encoders: folders, refined or not, or hub names.  data: folder of the data sets, by their published names.
    out: folder for scores and results.json, results.csv; what is done there is not done again.
    max_gb: of stored features, as in the study file's `activations`.
    """
    check_folder(Path(out))
    with importing():
        from wav2bold.trainables.superb.protocol import Options
        from wav2bold.trainables.superb.tasks import check_needs, check_tasks
        from wav2bold.tuning import superb as step

    names = check_tasks(tasks)
    check_needs(names, Path(data))
    benchmark = step.Benchmark(
        encoders=step.superb_encoders(list(map(str, encoders))),
        tasks=names,
        data=Path(data),
        results=Path(out),
        options=options or Options(),
        cpus=cpus_per_task,
        gpus=gpus_per_task,
        max_gb=max_gb,
    )
    return step.superb(benchmark, address, cpus, progress)


def _study(study: AnyStudy) -> Study:
    return study if isinstance(study, Study) else Study.load(study)


def _chosen(study: Study, config: Configuration | AnyPath) -> Configuration:
    """A configuration, that in a file, or the study's own for "paper"."""
    if isinstance(config, Configuration):
        return config
    return study.configuration if config == "paper" else _configuration(Path(config))


def _configuration(path: Path) -> Configuration:
    """The configuration in a file. Raises StudyError, also for a study in its place."""
    how = f"`wav2bold best STUDY --out {path}` writes it, and --config paper needs none"
    if not path.exists():
        raise StudyError(f"{path}: no such file", how)
    if {"shards", "encoder"} & read_yaml(path).keys():
        raise StudyError(
            f"{path}: is a study, not a configuration", "give the file that `wav2bold best` wrote"
        )
    return Configuration.load(path)


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)

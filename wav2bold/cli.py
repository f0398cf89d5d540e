"""The door: parse, call, show. No logic."""

import atexit
import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError

from wav2bold import steps
from wav2bold.cli_cluster import Submit, cluster, hand_over
from wav2bold.cli_superb import superb
from wav2bold.config import Simulation
from wav2bold.errors import RunsFailed, StudyError, UserError
from wav2bold.options import explain, options_of
from wav2bold.places import NOT_OURS, refusal
from wav2bold.terminal import err, lose_no_interrupt, out, watching

if TYPE_CHECKING:
    from wav2bold.tuning.registry import Registered

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Refine a speech model (wav2vec2, HuBERT, WavLM, Data2VecAudio) on fMRI of people who hear speech.

    From recordings to the best refined encoder, one step a command:

    [bold]prepare[/bold] RECORDINGS --out SHARDS  writes shards, and a study.yaml to edit
    [bold]inspect[/bold] SHARDS  tells what they hold, and draws it
    [bold]sweep[/bold] STUDY  searches history, regularisation, learning rate, what is unfrozen
    [bold]best[/bold] STUDY --out best.yaml  names the winner; also [bold]runs[/bold], [bold]compare[/bold]
    [bold]refine[/bold] STUDY --config best.yaml  refines the encoder for every subject
    [bold]report[/bold] STUDY --out report.html  tests the refined encoders on the held-out stories

    [bold]score[/bold] STUDY  scores any encoder on any shards, by layer, and the controls
    [bold]efficiency[/bold] STUDY --subject sub-003  tells what refinement saves of scanning time
    [bold]superb[/bold] ENCODER... --data DIR --out DIR  scores encoders in SUPERB's speech tasks

    `wav2bold demo` runs all of it on simulated data.""",
)

app.add_typer(cluster)
app.command()(superb)
DEFAULTS = Simulation()
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # our own bars tell; loading a small file needs none
    "MLFLOW_DISABLE_TELEMETRY": "true",  # recordings of people: nothing is told to anybody
}
# readable=False: whether a path may be read is told by whoever reads it, with the cure
StudyFile = Annotated[
    Path, typer.Argument(help="The study file, such as prepare writes.", show_default=False, readable=False)
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to work on, host:port or auto. Default: RAY_ADDRESS, or this machine."),
]
Cpus = Annotated[int | None, typer.Option(min=1, help="Cores to use on this machine. Default: all.")]
Json = Annotated[bool, typer.Option("--json", help="Print as JSON, for machines.")]
Recordings = Annotated[
    Path, typer.Argument(help="Folder of recordings, or a manifest of them (.tsv).", readable=False)
]
Layout = Annotated[
    str | None,
    typer.Option(help="manifest, narratives, lebel or bids. Default: whichever the recordings look like."),
]
Space = Annotated[
    str | None, typer.Option(help="Which space to take where recordings were written in several.")
]
Register = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Put the refined encoders into MLflow's model registry under this name; the one with the best "
        "brain score is found as models:/NAME@champion.",
    ),
]

INTERRUPTED = 130


def _described(field: str) -> Any:
    return typer.Option(help=Simulation.model_fields[field].description)


def _listed(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"wav2bold {version('wav2bold')}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="New folder to write the recordings into.")],
    speech: Annotated[
        Path | None, typer.Option(help="Folder of recordings to join into stories. Default: synthesised.")
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(
            help="File of real resting-state BOLD to use as noise: the dataset is then semi-synthetic. "
            "Default: AR(1) and drift."
        ),
    ] = None,
    subjects: Annotated[int, _described("subjects")] = DEFAULTS.subjects,
    null_subjects: Annotated[int, _described("null_subjects")] = DEFAULTS.null_subjects,
    stories: Annotated[int, _described("stories")] = DEFAULTS.stories,
    minutes: Annotated[float, _described("minutes")] = DEFAULTS.minutes,
    tr: Annotated[float, _described("tr_s")] = DEFAULTS.tr_s,
    history: Annotated[int, _described("history")] = DEFAULTS.history,
    space: Annotated[Literal["fsaverage5", "mni"], _described("space")] = DEFAULTS.space,
    hearing_targets: Annotated[int, _described("hearing_targets")] = DEFAULTS.hearing_targets,
    silent_targets: Annotated[int, _described("silent_targets")] = DEFAULTS.silent_targets,
    ceiling: Annotated[float, _described("ceiling")] = DEFAULTS.ceiling,
    perturbed: Annotated[str, _described("perturbed")] = ",".join(DEFAULTS.perturbed),
    perturbed_layers: Annotated[str, _described("perturbed_layers")] = ",".join(
        map(str, DEFAULTS.perturbed_layers)
    ),
    seed: Annotated[int, _described("seed")] = DEFAULTS.seed,
) -> None:
    """Write a simulated dataset: speech, BOLD of people who hear it, and an encoder to refine.

    The brains are a teacher encoder that hears the stories; the encoder to refine is the teacher
    with parts perturbed, so that there is something to learn and the truth is known.
    """
    try:
        options = Simulation.model_validate(
            {
                "subjects": subjects,
                "null_subjects": null_subjects,
                "stories": stories,
                "minutes": minutes,
                "tr_s": tr,
                "history": history,
                "space": space,
                "hearing_targets": hearing_targets,
                "silent_targets": silent_targets,
                "ceiling": ceiling,
                "perturbed": _listed(perturbed),
                "perturbed_layers": [
                    int(layer) if layer.isdigit() else layer for layer in _listed(perturbed_layers)
                ],
                "seed": seed,
            }
        )
    except ValidationError as error:
        raise StudyError(f"simulate: {explain(Simulation, error)}") from None
    with watching("simulate") as progress:
        truth = steps.simulate(folder, options, speech, noise, progress)
    people = len(truth.subjects) + len(truth.null_subjects)
    kind = "" if noise is None else " (semi-synthetic: simulated signal, real noise)"
    out.print(
        f"{people} subjects hear {len(truth.stories)} stories of {minutes:g} minutes{kind}: {folder}",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def prepare(
    recordings: Recordings,
    out_folder: Annotated[
        str, typer.Option("--out", help="Folder or URL (s3://bucket/folder) for the shards; made if absent.")
    ],
    layout: Layout = None,
    space: Space = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at the first recording that can't be used, and write nothing."),
    ] = False,
    address: Address = None,
    cpus: Cpus = None,
) -> None:
    """Write recordings as shards, once for all studies, and a study.yaml beside them.

    Only what is missing or changed is written: run it again whenever recordings were added. How
    BOLD is cleaned is said in the study.yaml beside the shards, where there is one.

    Recordings that can't be used are left out and listed at the end; the exit code is then 1.
    """
    from wav2bold.datasets.starter import study_path
    from wav2bold.places import place

    with watching("prepare") as progress:
        done = steps.prepare(
            recordings, out_folder, None, address, cpus, progress, layout, space, strict=strict
        )
    for doubt in done.doubts:
        err.print(f"warning: {doubt}", markup=False, soft_wrap=True)
    card = done.card
    runs = sum(sum(subject.stories.values()) for subject in card.subjects.values())
    out.print(f"{done.layout}: {runs} recordings in space {card.space}", markup=False, soft_wrap=True)
    for sentence in done.left_out:
        out.print(sentence, markup=False, soft_wrap=True)
    out.print(
        f"{len(card.subjects)} subjects, {len(card.stories)} stories: {done.written} shards written, "
        f"{done.kept} kept, {done.removed} removed. Edit {study_path(place(out_folder))}, then sweep it.",
        markup=False,
        soft_wrap=True,
    )
    if done.failed:
        raise RunsFailed(done.failed)


@app.command()
def manifest(recordings: Recordings, layout: Layout = None, space: Space = None) -> None:
    """Print recordings as a manifest, one line each, to read, edit and give to prepare.

    wav2bold manifest RECORDINGS > runs.tsv && wav2bold prepare runs.tsv --out SHARDS
    """
    with watching("manifest") as progress:
        text, found = steps.manifest(recordings, layout, space, progress)
    typer.echo(text, nl=False)
    people, stories = ({run.subject for run in found.runs}, {run.story for run in found.runs})
    err.print(
        f"{found.layout}: {len(people)} subjects, {len(stories)} stories, {len(found.runs)} recordings",
        markup=False,
    )
    for sentence in found.left_out:
        err.print(sentence, markup=False, soft_wrap=True)


@app.command()
def inspect(
    shards: Annotated[str, typer.Argument(help="Folder or URL of shards that prepare wrote.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The quality page. Default: quality.html beside the shards.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all facts as JSON; no page unless --out is given.")
    ] = False,
    page: Annotated[bool, typer.Option(help="Whether to write the quality page.")] = True,
) -> None:
    """Tell what shards hold, and write a page about their quality.

    Subjects and stories with their volumes, targets and noise ceilings, and who is unlike the others.
    The page draws recordings as carpets, ceilings on the brain, and BOLD beside the sound.
    """
    drawn = page and bool(out_file or not as_json)
    with steps.inspecting(shards, page=drawn) as (facts, write):
        from wav2bold.datasets.inspecting.inspection import quality_path
        from wav2bold.datasets.inspecting.listing import listing
        from wav2bold.places import place

        if as_json:
            typer.echo(facts.to_json())
        else:
            out.print(listing(facts, out.width))
        if drawn:
            path = out_file or quality_path(place(shards))
            with watching("inspect") as progress:
                write(path, progress)
            err.print(f"written: {path}", markup=False, soft_wrap=True)


@app.command()
def sweep(
    study: StudyFile,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest sweep, whatever ended it.")
    ] = False,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT", help="Learn from the newest sweep of this experiment (a study's name)."
        ),
    ] = None,
    address: Address = None,
    cpus: Cpus = None,
    submit: Submit = False,
) -> None:
    """Search for the best configuration; every trial is remembered in MLflow.

    The first trial is the paper's configuration. The goal is the mean brain score on the validation
    stories; the test stories are not touched. A sweep that was interrupted or killed goes on with --resume,
    and one that has ended takes further trials where search.trials was raised.
    """
    if submit:
        learnt = {} if warm_start is None else {"--warm-start": warm_start}
        hand_over("sweep", study, address, learnt, flags=("--resume",) if resume else ())
        return
    with watching("sweep") as progress:
        swept = steps.sweep(study, address, cpus, progress, resume=resume, warm_start=warm_start)
    winner = swept.best
    if warm_start is not None:
        out.print(f"{swept.warm} trials of {warm_start} were known from the beginning", markup=False)
    if winner is None:
        out.print(f"{len(swept.outcomes)} trials; none has a score", markup=False)
        return
    out.print(
        f"{len(swept.outcomes)} trials; best is trial {winner.number} with brain score "
        f"{winner.best_score:.4f} on the validation stories (MLflow run {winner.run_id})",
        markup=False,
        soft_wrap=True,
    )
    if swept.certainty:
        out.print(swept.certainty, markup=False, soft_wrap=True)


@app.command()
def best(
    study: StudyFile,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the configuration here, as YAML.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Only trials that pass MLflow's filter: params.history_tr = '6'"),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="List so many of the best.")] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="List those that none betters in score and search.second_goal.")
    ] = False,
    register: Register = None,
    as_json: Json = False,
) -> None:
    """Name the best configuration of the newest sweep; only MLflow is asked.

    With --register, encoders that `refine` made with it are put into MLflow's model registry.
    """
    trial = steps.best(study, out_file, where)
    if register is not None:
        _tell_registered(steps.register(study, register, trial.configuration))
    if top is None and not pareto and not as_json:
        out.print(
            f"trial {trial.number}, brain score {trial.best_score:.4f} on the validation stories",
            markup=False,
        )
        if sure := steps.certainty(study, trial):
            out.print(sure, markup=False, soft_wrap=True)
        out.print(trial.configuration.as_yaml().rstrip(), markup=False)
        return
    from wav2bold.config import Study
    from wav2bold.tuning.goals import second_goal
    from wav2bold.tuning.listing import as_data, trials_table

    trials = steps.ranked(study, where, pareto=pareto) if top or pareto else [trial]
    trials = trials[:top]
    goal = second_goal(Study.load(study))
    _show([as_data(one) for one in trials] if as_json else trials_table(trials, goal))


@app.command()
def runs(study: StudyFile, as_json: Json = False) -> None:
    """List the sweeps and refinements of a study that MLflow remembers, the newest first."""
    found = steps.runs(study)
    from wav2bold.tuning.listing import as_data, runs_table

    _show([as_data(one) for one in found] if as_json else runs_table(found))


@app.command()
def compare(
    study: StudyFile,
    one: Annotated[str, typer.Argument(help="A trial: its number in the newest sweep, or its run's id.")],
    other: Annotated[str, typer.Argument(help="Another.")],
    as_json: Json = False,
) -> None:
    """Show what two trials differ in, and how they did."""
    trials = steps.compare(study, one, other)
    from wav2bold.tuning.listing import as_data, comparison_table, differences

    if as_json:
        _show({"differences": differences(*trials), "trials": [as_data(trial) for trial in trials]})
    else:
        _show(comparison_table(*trials))


def _show(what: Any) -> None:
    """A table, or what JSON can hold."""
    if isinstance(what, list | dict):
        typer.echo(json.dumps(what, indent=2))
    else:
        out.print(what)


@app.command()
def refine(
    study: StudyFile,
    config: Annotated[
        str, typer.Option(help="Configuration file that best wrote, or: paper, for the study's own.")
    ] = "paper",
    subjects: Annotated[str, typer.Option(help="Subjects, separated by commas, or: all.")] = "all",
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Default: refined, refined-paper or pretrained, beside the study."),
    ] = None,
    subsets: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|each",
            help="Refine each subset of parameters by itself: those of a YAML file, `name: {type: range}`, "
            "or every type in every layer.",
        ),
    ] = None,
    pretrain: Annotated[
        bool,
        typer.Option(
            "--pretrain",
            help="Make the control: the same training with the stories' sound alone, without BOLD.",
        ),
    ] = False,
    register: Register = None,
    address: Address = None,
    cpus: Cpus = None,
    submit: Submit = False,
) -> None:
    """Refine the encoder for each subject by itself, in parallel.

    Each subject's folder loads with transformers' AutoModel.from_pretrained. A subject that was refined
    from the same data with the same configuration is kept; one whose refinement was interrupted goes on from
    its last epoch. With --subsets, folders lie in one of their subset, and a table tells what each brought.
    """
    if submit:
        where = {} if out_folder is None else {"--out": str(out_folder.resolve())}
        options = {"--subjects": subjects, **where, **({} if register is None else {"--register": register})}
        flags = ("--pretrain",) if pretrain else ()
        hand_over("refine", study, address, options, config, flags, subsets)
        return
    who = None if subjects == "all" else _listed(subjects)
    with watching("refine") as progress:
        done = steps.refine(
            study,
            config,
            who,
            out_folder,
            address,
            cpus,
            progress,
            subsets=subsets,
            model=register,
            pretrain=pretrain,
        )
    if done.subsets:
        from wav2bold.tuning.listing import subsets_table

        out.print(subsets_table(done.subsets))
    what = "subjects" if subsets is None else "subsets of subjects"
    out.print(
        f"{len(done.done)} {what} refined, {len(done.kept)} kept as they were: {done.out}",
        markup=False,
        soft_wrap=True,
    )
    if done.registered is not None:
        _tell_registered(done.registered)


def _tell_registered(champion: "Registered") -> None:
    err.print(
        f"{champion.uri} is version {champion.version}: {champion.subject}, brain score "
        f"{champion.score:.4f} on the validation stories",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def report(
    study: StudyFile,
    out_file: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Score every hidden state, before and after.")
    ] = True,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive/--no-interactive", help="Let figures be turned and pointed at; 2 MB more."
        ),
    ] = True,
    superb_folder: Annotated[
        Path | None,
        typer.Option("--superb", help="The --out folder of superb, to show the speech tasks, too."),
    ] = None,
    address: Address = None,
    cpus: Cpus = None,
) -> None:
    """Score the refined encoders on the test stories and write one page about the study."""
    with watching("report") as progress:
        steps.report(
            study,
            out_file,
            address,
            cpus,
            progress,
            layers=layers,
            interactive=interactive,
            superb=superb_folder,
        )
    out.print(f"written: {out_file}", markup=False)


@app.command()
def efficiency(
    study: StudyFile,
    subject: Annotated[str, typer.Option(help="Whose minutes are counted; all others are refined on.")],
    minutes: Annotated[
        str | None,
        typer.Option(
            help="Budgets, separated by commas. Default: all there are, half, a quarter, an eighth."
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="Configuration file that best wrote, or: paper, for the study's own.")
    ] = "paper",
    address: Address = None,
    cpus: Cpus = None,
    as_json: Json = False,
) -> None:
    """Tell what refinement saves a new subject of scanning time.

    Brain score on the test stories against minutes of the subject's training stories: of the encoder as it
    came, refined on all others, and refined on them and then on those minutes. `report` draws the curves.
    """
    try:
        budgets = None if minutes is None else tuple(map(float, _listed(minutes)))
    except ValueError:
        raise StudyError(f"--minutes: {minutes} are no numbers", "write them as in 5,10,20") from None
    with watching("efficiency") as progress:
        found = steps.efficiency(study, subject, config, budgets, address, cpus, progress)
    if as_json:
        typer.echo(found.to_json())
        return
    from wav2bold.tuning.efficiency_words import efficiency_table, saved

    out.print(efficiency_table(found))
    for sentence in saved(found):
        out.print(sentence, markup=False, soft_wrap=True)


@app.command()
def score(
    study: StudyFile,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="Folder, refined or not, or hub name; can be given again. Default: the study's."),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(help="Other shards to score on, with the split of the study file beside them."),
    ] = None,
    subjects: Annotated[str, typer.Option(help="Subjects, separated by commas, or: all.")] = "all",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Control: the same architecture, untrained.")
    ] = False,
    shift_bold: Annotated[
        bool,
        typer.Option("--shift-bold", help="Control: BOLD moved by half of each story; nothing may be left."),
    ] = False,
    bold_of: Annotated[
        str | None, typer.Option(help="Control: compare predictions with this subject's BOLD.")
    ] = None,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Score every hidden state by itself, with plain ridge.")
    ] = False,
    by_region: Annotated[
        bool, typer.Option("--by-region", help="Score each region of targets, too.")
    ] = False,
    low_level: Annotated[
        bool,
        typer.Option("--low-level", help="What the encoder explains beyond log-mel energies and envelope."),
    ] = False,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the scores of every target here, as Parquet.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Draw them into this SVG, PNG or PDF: curves over layers, else encoders by subjects."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score encoders on the test stories, each with a ridge fitted on the training stories.

    Any encoder, any shards: the pretrained one, one refined on another subject, one of another study. Brain
    score (mean r over targets) with its interval, its share of the noise ceiling, explained variance, and how
    many targets are predicted by more than chance.
    """
    if low_level and (by_layer or by_region):
        raise StudyError("score: two tables at once", "leave out --low-level, or --by-layer and --by-region")
    if low_level and out_file is not None:
        raise StudyError("score: --low-level has no scores of targets to write", "leave out --out")
    if low_level and picture is not None:
        raise StudyError("score: --low-level has a table and no picture", "leave out --picture")
    who = None if subjects == "all" else _listed(subjects)
    controls: Any = {"random_weights": random_weights, "shift_bold": shift_bold, "bold_of": bold_of}
    cuts: Any = {"by_layer": by_layer, "by_region": by_region, "out": out_file, "picture": picture}
    step: Any = steps.score_beyond if low_level else steps.score
    with watching("score") as progress:
        more = controls if low_level else controls | cuts
        scores = step(study, encoder or (), shards, who, **more, progress=progress)
    from wav2bold.evaluation import listing as lists

    if as_json:
        typer.echo(lists.as_json(scores))
    else:
        table: Any = lists.beyond_listing if low_level else lists.listing
        out.print(table(scores, lists.heading(**controls)))


@app.command()
def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path(
        "demo"
    ),
    seed: Annotated[int, _described("seed")] = 0,
) -> None:
    """Go through all steps on simulated data, in a few minutes: the same that real data takes."""
    from wav2bold.demo import demo as run

    run(out_folder, seed)


@app.command()
def options() -> None:
    """Explain every option of the study file, with its unit and default."""
    from wav2bold.config import Study

    for key, default, description in options_of(Study):
        out.print(f"[bold]{key}[/bold]" + (f" = {default}" if default else ""))
        out.print(f"    {description}", markup=False)


def main() -> None:
    """Run the command. Exit codes: 0 done, 1 some runs failed, 2 a mistake of the user's, 70 our bug, 130
    interrupted."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    lose_no_interrupt()
    atexit.register(gc.freeze)  # at the end: a look for garbage in all that was imported takes a second
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its retries; our own message tells how it ended
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # some versions of typer give the code, others raise Abort
            raise KeyboardInterrupt
    except RunsFailed as failure:
        err.print(str(failure), markup=False, soft_wrap=True)
        code = 1
    except UserError as error:
        err.print(f"wav2bold: {error}".replace("\n", " "), markup=False, soft_wrap=True)
        code = 2
    except typer.Exit as ended:
        code = ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted; what was finished is kept")
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last door
        if isinstance(error, OSError) and error.errno in NOT_OURS:
            err.print(f"wav2bold: {refusal(error.filename, error)}", markup=False, soft_wrap=True)
            code = 2
        elif hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own, of any version
            said = error.format_message().rstrip(".")
            if said:  # nothing where the help was shown, since no command was given
                err.print(f"wav2bold: {said}; see wav2bold --help", markup=False, soft_wrap=True)
            code = 2
        else:
            traceback.print_exc()
            err.print("wav2bold: this is a bug of ours; please report it with the lines above")
            code = 70
    sys.exit(code)

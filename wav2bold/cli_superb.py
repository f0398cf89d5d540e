"""The door to `wav2bold superb`: parse, call, show. No logic."""

from pathlib import Path
from typing import Annotated

import typer

from wav2bold import steps
from wav2bold.errors import RunsFailed, StudyError
from wav2bold.terminal import err, out, watching


def superb(
    encoders: Annotated[
        list[str],
        typer.Argument(
            metavar="ENCODER...",
            help="Folders, refined or not, or hub names. Others are compared with the first.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(help="Folder of the data sets, each under its published name.", readable=False),
    ],
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for scores; run again, it goes on from what is there.")
    ],
    tasks: Annotated[
        str, typer.Option(help="Of ks, ic, sid, er, pr, asr, asv and sd, separated by commas.")
    ] = "ks,ic,sid,er,pr,asr,asv,sd",
    updates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Train heads for so many updates only. Default: as published, 30,000 to 200,000."
        ),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Learning rates to choose from on dev, separated by commas. Default: 1e-1, 1e-2, ... 1e-7."
        ),
    ] = None,
    crops: Annotated[
        int, typer.Option(min=1, help="sid: fixed stretches of 8 s to train on from each file.")
    ] = 4,
    normalize_wav: Annotated[
        bool | None,
        typer.Option(
            "--normalize-wav/--no-normalize-wav",
            help="Whether encoders hear normalised sound. Default: as each was refined or published.",
        ),
    ] = None,
    as_published: Annotated[
        bool,
        typer.Option(
            help="asv, sd: choose on the test set, as the reference does, to compare with published numbers."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of heads and batches.")] = 0,
    max_gb: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Room on disk for what encoders heard, GB: means, and frames too, to be heard once. "
            "Default: means only, in nine tenths of what is free.",
        ),
    ] = None,
    cpus_per_task: Annotated[int, typer.Option(min=1, help="Cores that one task of one encoder holds.")] = 1,
    gpus_per_task: Annotated[float, typer.Option(min=0, help="GPUs that it holds, or a part of one.")] = 0,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to work on, host:port or auto. Default: RAY_ADDRESS, or this machine."
        ),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Cores to use on this machine. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON, for machines.")] = False,
) -> None:
    """Score encoders in SUPERB's speech tasks: did refinement help?

    The encoder stays frozen; for each task a small head is trained on a weighted sum of its hidden states, at
    all learning rates at once, and the rate that is best on dev is tested. Encoders and tasks run in
    parallel.

    wav2bold superb facebook/wav2vec2-base refined/sub-001 --tasks ks,er --data corpora --out superb

    DIR of --data holds what the tasks need, as published:
    ks: speech_commands_v0.01, speech_commands_test_set_v0.01;
    ic: fluent_speech_commands_dataset; sid: VoxCeleb1 with iden_split.txt; er: IEMOCAP_full_release;
    pr, asr: LibriSpeech, for pr with librispeech-lexicon.txt in it; asv: VoxCeleb1 with veri_test.txt;
    sd: Libri2Mix with Kaldi's folders train, dev and test in Libri2Mix/diarization.

    Results: a table here, results.json and results.csv in the --out folder, a run for each score in MLflow.
    """
    from wav2bold.trainables.superb.protocol import RATES, Options

    options = Options(
        updates, RATES if rates is None else _numbers(rates), seed, crops, normalize_wav, as_published
    )
    names = tuple(word.strip() for word in tasks.split(",") if word.strip())
    with watching("superb") as progress:
        done = steps.superb(
            encoders,
            names,
            data,
            out_folder,
            options,
            address,
            cpus,
            progress,
            cpus_per_task=cpus_per_task,
            gpus_per_task=gpus_per_task,
            max_gb=max_gb,
        )
    from wav2bold.evaluation import superb_listing as lists

    if as_json:
        typer.echo(lists.as_json(done.rows))
    else:
        out.print(lists.listing(done.rows))
    err.print(
        f"{len(done.rows)} scores, {done.kept} of them kept: {out_folder}", markup=False, soft_wrap=True
    )
    if done.failed:
        raise RunsFailed(done.failed)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        found = ()
    if not found or not all(0 < rate < float("inf") for rate in found):
        raise StudyError(f"--rates: {text} is no list of learning rates", "write them as in 1e-2,1e-3")
    return tuple(dict.fromkeys(found))

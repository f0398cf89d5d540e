"""The door to `wav2bold cluster`: parse, call, show. No logic."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2bold.terminal import err, out

if TYPE_CHECKING:
    from rich.table import Table

    from wav2bold.cluster.shape import Shape
    from wav2bold.tuning.plan import Plan

cluster = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    help="Where the work runs: this machine, machines you own, or a cloud's.",
)
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster, host:port or auto. Default: RAY_ADDRESS.")
]

Lent = Annotated[int | None, typer.Option(min=0, help="How many this machine lends. Default: all.")]
Job = Annotated[str, typer.Argument(help="The id that --submit told.")]
Server = Annotated[
    str | None,
    typer.Option(
        "--jobs", help="The cluster's job server. Default: RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265."
    ),
]


Submit = Annotated[
    bool,
    typer.Option(
        "--submit",
        help="Hand the work over to a cluster, whose job server --address then names, and look on; Ctrl-C "
        "detaches.",
    ),
]


def hand_over(
    command: str,
    study: Path,
    server: str | None,
    options: Mapping[str, str],
    config: str | None = None,
    flags: Sequence[str] = (),
    subsets: str | None = None,
) -> None:
    """Have a cluster run a command on a study, and show what it writes until it ends or Ctrl-C detaches.

    options, flags: of the command.  config, subsets: a configuration's file and one of subsets, which travel
    with the study, or words.
    """
    from wav2bold.cluster import jobs

    client = jobs.job_server(server)
    job = jobs.hand_over(client, command, study, options, config, flags, subsets)
    err.print(f"handed over as {job}", markup=False)
    try:
        for text in jobs.told(client, job, follow=True):
            out.print(text, markup=False, end="", soft_wrap=True)
    except KeyboardInterrupt:
        said = f"detached; the job goes on: wav2bold cluster logs {job} --follow"
        err.print(said, markup=False, soft_wrap=True)  # a line that can be copied whole
        return
    code = jobs.exit_code(client, job)
    if code:
        raise typer.Exit(code)


@cluster.command()
def plan(
    study: Annotated[Path, typer.Argument(help="The study file.", show_default=False, readable=False)],
    config: Annotated[
        Path | None,
        typer.Option(help="A cluster-launcher file: plan for that cluster, grown as far as it may."),
    ] = None,
    address: Address = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Cores to use on this machine. Default: all.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a short trial, and tell the hours of the whole.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON; sizes in bytes.")] = False,
) -> None:
    """Tell what a sweep takes and how a cluster would hold it, before anything is spent.

    Refuses what can never be placed, with the smallest change that makes it fit; a sweep and a refine make
    the same check before they begin.
    """
    from wav2bold.tuning.planning import plan_of

    found = plan_of(study, config, address, cpus, calibrate=calibrate)
    if as_json:
        typer.echo(
            json.dumps(asdict(found) | {"memory_total": found.memory.total, "hours": found.hours}, indent=2)
        )
    else:
        out.print(_drawn(found))


@cluster.command()
def start(
    host: Annotated[
        str, typer.Option(help="Address that other machines reach this one at. Default: this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Ray.")] = 6379,
    jobs_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of the job server, on loopback.")
    ] = 8265,
    cpus: Lent = None,
    gpus: Lent = None,
) -> None:
    """Run the head of a cluster here, until Ctrl-C.

    Only those who hold the token in ~/.ray/auth_token are let in; it is made if there is none.
    """
    from wav2bold.cluster import nodes

    def started() -> None:
        err.print(f"the head answers at {host}:{port}", markup=False)
        if nodes.has_job_server():
            err.print(f"jobs are taken at http://127.0.0.1:{jobs_port}", markup=False)
        else:
            err.print("no jobs are taken: that needs ray[default]", markup=False)

    nodes.start(host, port, jobs_port, {"num-cpus": cpus, "num-gpus": gpus}, started)


@cluster.command()
def join(
    address: Annotated[str, typer.Argument(help="The head, host:port.")],
    host: Annotated[
        str | None, typer.Option(help="Address that the others reach this machine at. Default: as Ray finds.")
    ] = None,
    cpus: Lent = None,
    gpus: Lent = None,
) -> None:
    """Lend this machine to a cluster, until Ctrl-C; the head's token must be in ~/.ray/auth_token."""
    from wav2bold.cluster import nodes

    def started() -> None:
        err.print(f"joined {address}", markup=False)

    nodes.join(address, host, {"num-cpus": cpus, "num-gpus": gpus}, started)


@cluster.command()
def status(address: Address = None) -> None:
    """Tell which machines a running cluster has, and what of them is free."""
    from wav2bold.cluster.connect import connected
    from wav2bold.cluster.shape import connected_shape, free_now

    with connected(address or os.environ.get("RAY_ADDRESS") or "auto"):
        shape, (cpus, gpus) = connected_shape(), free_now()
    out.print(_machines(shape), markup=False)
    out.print(f"free: {cpus:g} of {shape.cpus:g} cores, {gpus:g} of {shape.gpus:g} GPUs", markup=False)


@cluster.command()
def logs(
    job: Job,
    server: Server = None,
    follow: Annotated[bool, typer.Option(help="Go on until the job ends.")] = False,
) -> None:
    """Print what a job has written."""
    from wav2bold.cluster import jobs

    for text in jobs.told(jobs.job_server(server), job, follow=follow):
        out.print(text, markup=False, end="", soft_wrap=True)


@cluster.command()
def stop(job: Job, server: Server = None) -> None:
    """End a job; what it finished is kept."""
    from wav2bold.cluster import jobs

    running = jobs.stop(jobs.job_server(server), job)
    out.print(f"{job} is being stopped" if running else f"{job} had ended before", markup=False)


def _drawn(found: "Plan") -> "Table":
    from rich.table import Table

    demand, memory = found.demand, found.memory
    parts = ", ".join(f"{name} {_gb(size)}" for name, size in asdict(memory).items() if size >= 50_000_000)
    table = Table(title=f"Plan for {found.shape.told_by}", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    windows = f"{found.train:,} windows to train and {found.validation:,} to validate"
    stored = (
        f"{_gb(found.activations)} for the study's own configuration, {_gb(found.activations_most)} at most"
    )
    for name, said in (
        ("cluster", _machines(found.shape)),
        ("a trial", f"{demand.workers} x ({demand.cpus:g} cores, {demand.gpus:g} GPUs)"),
        ("trials", f"{found.trials}, {found.at_once} at once; limited by {found.limits}"),
        ("data", f"{found.people} people, {found.targets:,} targets, {windows}"),
        ("memory of a worker", f"{_gb(memory.total)} at most: {parts}"),
        ("object store", f"{_gb(found.object_store)}: workers read shards themselves"),
        ("activations on disk", f"{stored}; {_gb(found.disk_free)} free"),
        ("time", _time(found)),
    ):
        table.add_row(name, said)
    return table


def _time(found: "Plan") -> str:
    """Expected hours, and what they assume."""
    pace, assumed = found.pace, "each like the study's own, none stopped early"
    if pace is None:
        return f"{found.trials} trials / {found.at_once} x that of one, which --calibrate tells; {assumed}"
    parts = f"{pace.first:.2g} s before and {pace.epochs} epochs of {pace.epoch:.2g} s"
    told_by = f"{pace.timed:.1f} s on {pace.where} with {pace.share:.0%} of the windows"
    return f"{found.hours:.2g} h; a trial {pace.trial:.2g} s: {parts}, by {told_by}; {assumed}"


def _machines(shape: "Shape") -> str:
    return "\n".join(
        f"{each.count} x {each.kind}: {each.cpus:g} cores, {each.gpus:g} GPUs, memory {_gb(each.memory)}"
        for each in shape.machines
    )


def _gb(size: float | None) -> str:
    """Bytes in gigabytes of 10^9, or in megabytes or kilobytes where it is less than one."""
    if size is None:
        return "unknown"
    unit, name = next(
        pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= pair[0] or pair[0] == 1e3
    )
    return f"{size / unit:.1f} {name}"

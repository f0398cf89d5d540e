"""The door to `wav2bold cluster`: parse, call, show. No logic."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2bold.terminal import out

if TYPE_CHECKING:
    from rich.table import Table

    from wav2bold.tuning.plan import Plan

cluster = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    help="Where the work runs: this machine, machines you own, or a cloud's.",
)
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster, host:port or auto. Default: RAY_ADDRESS.")
]


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
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON; sizes in bytes.")] = False,
) -> None:
    """Tell what a sweep takes and how a cluster would hold it, before anything is spent.

    Refuses what can never be placed, with the smallest change that makes it fit; a sweep and a refine make
    the same check before they begin.
    """
    from wav2bold.tuning.planning import plan_of

    found = plan_of(study, config, address, cpus)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"memory_total": found.memory.total}, indent=2))
    else:
        out.print(_drawn(found))


def _drawn(found: "Plan") -> "Table":
    from rich.table import Table

    machines = "\n".join(
        f"{each.count} x {each.kind}: {each.cpus:g} cores, {each.gpus:g} GPUs, {_gb(each.memory)} of memory"
        for each in found.shape.machines
    )
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
        ("cluster", machines),
        ("a trial", f"{demand.workers} x ({demand.cpus:g} cores, {demand.gpus:g} GPUs)"),
        ("trials", f"{found.trials}, {found.at_once} at once; limited by {found.limits}"),
        ("data", f"{found.people} people, {found.targets:,} targets, {windows}"),
        ("memory of a worker", f"{_gb(memory.total)} at most: {parts}"),
        ("object store", f"{_gb(found.object_store)}: workers read shards themselves"),
        ("activations on disk", f"{stored}; {_gb(found.disk_free)} free"),
    ):
        table.add_row(name, said)
    return table


def _gb(size: float | None) -> str:
    """Bytes in gigabytes of 10^9, or in megabytes where it is less than one."""
    if size is None:
        return "unknown"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

"""The report's section on how the search went."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from wav2bold.tuning.best import pareto
from wav2bold.tuning.findings import Findings
from wav2bold.tuning.goals import second_goal
from wav2bold.tuning.methods import LITTLE
from wav2bold.tuning.parallel import parallel_coordinates
from wav2bold.tuning.search_pictures import front, importance_bars, optimisation
from wav2bold.tuning.tried import DRAWS, LEAST_TRIALS, MOST_DRAWN, importances, scored


def search_section(findings: Findings) -> Markup:
    """Its HTML: scores by trial, importances, parallel coordinates and, of two goals, what betters all."""
    trials, study = findings.trials, findings.study
    known, found = scored(trials), importances(trials)
    goal = second_goal(study)
    two = study.search.sampler == "nsgaii" or study.search.second_goal is not None
    traded = front(trials, goal) if two else ""
    few = f"Importances need {LEAST_TRIALS} trials with scores that differ, in options that differ."
    pictures = {
        "optimisation": optimisation(trials),
        "importances": importance_bars(found),
        "parallel": parallel_coordinates(trials, findings.winner),
        "front": traded,
    }
    template = files("wav2bold.tuning").joinpath("search.html").read_text(encoding="utf-8")
    filled = (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            **{name: Markup(svg) for name, svg in pictures.items()},  # noqa: S704  # made by ourselves
            known=f"{len(known):,}",
            failures=sum(trial.status == "FAILED" for trial in trials),
            draws=DRAWS,
            drawn=min(len(known), MOST_DRAWN),
            why=few,
            goal=LITTLE[goal],
            front_size=len(pareto(known, goal)) if traded else 0,
        )
    )
    return Markup(filled)  # noqa: S704  # of our own template, which escapes

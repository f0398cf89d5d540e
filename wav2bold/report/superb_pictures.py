"""The report's charts of which hidden states a speech task reads."""

# L hidden states

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg

LOOKS = {
    "unrefined": (LIGHT["muted"], "o"),
    "stimuli alone": (LIGHT["paper"], "s"),
    "refined": (LIGHT["best"], "^"),
}
"""Colour and marker by what an encoder is: shapes tell them apart on grey paper."""
NAMES = {"weight": "weight", "share": "weight \N{MULTIPLICATION SIGN} length"}


def states_svg(task: str, by_kind: Mapping[str, NDArray[np.float64]], what: str) -> str:
    """A curve over hidden states, in %, for each kind of encoder. by_kind: (L,) each, sums to 1.

    what: a key of NAMES.
    """
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.2)
        for kind, shares_L in by_kind.items():
            colour, marker = LOOKS[kind]
            axes.plot(100 * shares_L, marker=marker, ms=4.5, lw=1.6, color=colour, label=kind)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"hidden state, {task}")
        axes.set_ylabel(f"{NAMES[what]}, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend(axes)
        title = f"{NAMES[what].capitalize()} of each hidden state in {task}: {', '.join(by_kind)}"
        return svg(figure, f"superb-{what}-{task}", title)

"""Query by example's answers as the XML that the data set's own scorer reads."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from wav2bold.options import write_whole

NAME = "wav2bold.stdlist.xml"
YES = 2.0
"""Standard scores above it are a decision, as in the reference; the best threshold doesn't depend on it."""


def write_stdlist(
    folder: Path, queries: Sequence[str], documents: Sequence[str], sure_QN: NDArray[np.float64]
) -> None:
    """Every query's scores in all documents as a list of detected terms (NIST's plan of 2006), in a folder.

    The scorer takes the folder's only *.stdlist.xml.
    """
    root = ET.Element(
        "stdlist",
        termlist_filename=NAME,
        indexing_time="1.00",
        language="english",
        index_size="1",
        system_id="wav2bold",
    )
    for query, sures in zip(queries, sure_QN, strict=True):
        terms = ET.SubElement(
            root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1"
        )
        for document, sure in zip(documents, sures, strict=True):
            ET.SubElement(
                terms,
                "term",
                file=document,
                channel="1",
                tbeg="0.000",
                dur="0.00",
                score=f"{sure:.4f}",
                decision="YES" if sure > YES else "NO",
            )
    write_whole(folder / NAME, ET.tostring(root, encoding="unicode", xml_declaration=True))

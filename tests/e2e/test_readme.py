"""The README's Python, as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from commands import Made, edited, environment

README = Path(__file__).parents[2] / "README.md"


def test_the_python_of_the_readme_runs(tiny: Made, tmp_path: Path) -> None:
    shutil.copytree(tiny.recordings, tmp_path / "recordings")
    study = tmp_path / "recordings" / "study.yaml"
    edited(study, study, search__trials=2, configuration__epochs=1)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trial, scores = done.stdout.splitlines()[-2:]
    assert re.fullmatch(r"[01] -?0\.\d+ \d+", trial)
    assert "'frozen'" in scores
    assert "Gain(gain=" in scores
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "refined" / "sub-001" / "config.json").is_file()

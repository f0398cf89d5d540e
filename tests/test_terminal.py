"""What a person presses is heard."""

import subprocess
import sys

SWALLOWS = """
import os, signal, sys, time
from wav2bold.terminal import lose_no_interrupt

class Cleared:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

if "heard" in sys.argv:
    lose_no_interrupt()
one = Cleared()
del one
time.sleep(2)
print("went on")
"""


def test_an_interrupt_while_something_is_cleared_away_is_not_lost() -> None:
    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", SWALLOWS, *words], capture_output=True, text=True, check=False
        )

    assert ended().stdout == "went on\n"  # Python's own way
    heard = ended("heard")
    assert heard.stdout == ""
    assert "KeyboardInterrupt" in heard.stderr
    assert heard.returncode != 0

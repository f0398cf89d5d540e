"""What a person presses is heard."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

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


TELLS = """
import time
from wav2bold.terminal import watching

with watching("refine") as tell:
    for done in range(0, 346, 15):
        tell(f"feed_forward-11/sub-[of]-the-{done:03d}th-session, epoch 5: r = 0.123", done, 345)
        time.sleep(0.03)
"""


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_progress_is_one_line_in_which_names_are_cut_and_numbers_stay(columns: int) -> None:
    drawn = in_a_terminal(TELLS, columns)
    assert drawn.count("\n") == 1
    # what is drawn over what: a line begins where the last was wiped
    lines = [plain(line) for line in re.split(r"\r|\x1b\[2K", drawn) if plain(line).strip()]
    assert max(map(len, lines)) <= columns
    told = [line for line in lines if "feed_" in line]
    assert len(told) > 3
    assert all(re.search(r"\b\d+/345 \d:\d\d:\d\d [-\d]:[-\d]{2}:[-\d]{2} left", line) for line in told)
    assert all("sub-[of]-the" in line for line in told) == (columns >= 80)


def in_a_terminal(program: str, columns: int) -> str:
    """What a program writes to a terminal of so many columns."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plainly = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=its, env=plainly | {"TERM": "xterm"}, start_new_session=True
    )
    os.close(its)
    parts = []
    while True:
        try:
            part = os.read(mine, 65536)
        except OSError:  # Linux says so where nobody writes any more
            part = b""
        if not part:
            break
        parts.append(part)
    os.close(mine)
    assert process.wait(60) == 0
    return b"".join(parts).decode()


def plain(text: str) -> str:
    """Without colours and what moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\n", "")

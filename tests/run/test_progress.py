"""How far a run is: a bar for a person, a line an epoch for a log file."""

import os
import pty
import subprocess
import sys
import termios

from killing import SHORT

COMMAND = [sys.executable, "-m", "lets_runner", "epochs=3", "device=cpu", "method=sam", "progress=true"]
COMMAND += [word for word in SHORT if not word.startswith(("progress", "epochs", "method"))]


def test_a_log_file_gets_a_line_an_epoch(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        command = [*COMMAND, f"output={tmp_path / 'runs'}"]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True, timeout=240)
    text = (tmp_path / "log").read_bytes()
    assert b"\r" not in text and b"\x1b" not in text
    *lines, last = text.decode().splitlines()
    assert len(lines) == 3
    [epochs] = (tmp_path / "runs").rglob("epochs.csv")
    for number, (line, row) in enumerate(zip(lines, epochs.read_text().splitlines()[1:], strict=True), 1):
        cells = row.split(",")
        assert line.startswith(f"epoch {number}, step {cells[1]} of {3 * int(cells[1]) // number}, loss ")
        assert line.endswith(f", accuracy {float(cells[4]):.1%} train, {float(cells[6]):.1%} val")
    assert last.startswith("test accuracy ")


def test_a_terminal_gets_a_bar(tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    process = subprocess.Popen([*COMMAND, f"output={tmp_path}"], stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=240) == 0
    assert b"\r" in shown and b"100%|" in shown and b"accuracy " in shown


def test_where_none_is_wanted_there_is_none(tmp_path):
    command = [*COMMAND, f"output={tmp_path}", "progress=false"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert done.stderr == "" and done.stdout.count("\n") == 1

"""A wheel, built and installed elsewhere, brings its configuration along and runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lets_runner import __version__

ROOT = Path(__file__).parents[1]


def run(*command, **settings):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, check=True, **settings
    )


def test_wheel_runs_from_anywhere(tmp_path):
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT))
    [wheel] = (tmp_path / "dist").glob("*.whl")
    run("-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    assert (tmp_path / "site" / "lets_runner" / "conf" / "train.yaml").is_file()
    assert not (tmp_path / "site" / "tests").exists()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = run("-c", "import lets_runner; print(lets_runner.__file__)", env=environment, cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "site")
    done = run("-m", "lets_runner", "epochs=1", "progress=false", env=environment, cwd=tmp_path)
    assert done.stdout.startswith("test accuracy ")
    assert '"git_commit": null' in next((tmp_path / "runs").rglob("summary.json")).read_text()
    reported = run("-m", "lets_runner.report.command", "runs", env=environment, cwd=tmp_path)
    assert reported.stdout.startswith("1 finished; table.md, ")
    assert "<table>" in (tmp_path / "report" / "index.html").read_text()


def test_a_version_has_a_note_and_is_cited():
    notes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$", notes, re.M)
    released = [number for number, date in newest if date != "unreleased"]
    assert released[0] == __version__ and __version__ in (ROOT / "CITATION.cff").read_text(encoding="utf-8")

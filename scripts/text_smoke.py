"""The tables of docs/text.md: small untrained networks on a part of SST-2 and of IWSLT'14, every method, on one core.

    python scripts/text_smoke.py sst2 --root sets            # trains what docs/text/runs.csv lacks, prints the table
    python scripts/text_smoke.py iwslt14 --root sets
    python scripts/text_smoke.py sst2 --print                # prints the table of what is there

`--root` holds the folders `glue/SST-2` and `iwslt14`. Scores are those of the test set (GLUE's development set) after
the last epoch, mean ± standard deviation over three seeds; radii are given, none was searched for.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

KEPT = Path(__file__).resolve().parents[1] / "docs" / "text" / "runs.csv"
SEEDS = (0, 1, 2)
LONGEST = 12  # words of the sentences that are translated
PARTS = {"train": ("train", "train_subset"), "valid": ("valid",), "test": ("test",)}  # names of IWSLT'14's files
MOST = {"train": None, "valid": 500, "test": 500}  # sentences
METHODS = {  # words of the command line; LETS starts from the ρ that SAM keeps
    "ERM": ("method=erm",),
    "SAM, ρ = 0.01": ("method=sam", "sam.rho=0.01"),
    "ASAM, ρ = 0.1": ("method=asam", "sam.rho=0.1"),
    "LETS from 0.01": ("method=lets_sam", "sam.rho=0.01"),
    "horizon LETS": ("method=horizon_sam",),
}


@dataclass(frozen=True)
class Problem:
    """`scores`: columns of a summary, how the table calls them, and the factor to what it shows."""

    words: tuple[str, ...]
    scores: dict[str, tuple[str, float]]


PROBLEMS = {
    "sst2": Problem(  # half of the training set is for validation, so that a run takes minutes
        (
            *("data=glue", "data.task=sst2", "data.val_fraction=0.5", "data.max_length=48"),
            *("model=auto_text", "model.depth=1", "model.width=64"),
            *("epochs=1", "batch_size=64", "optimizer.lr=1e-3", "grad_clip=1", "precision=bf16"),
        ),
        {"test_accuracy": ("accuracy, %", 100)},
    ),
    "iwslt14": Problem(
        (
            *("data=iwslt14", "data.merges=1000", "data.max_tokens=2048", "batch_size=256"),
            *("task=translation", "model=transformer_iwslt", "model.layers=2", "model.width=128", "model.hidden=256"),
            *("model.dropout=0.1", "model.share_embeddings=true", "optimizer=adam", "optimizer.lr=2e-3"),
            *("schedule=inverse_sqrt", "schedule.warmup=100", "epochs=6", "precision=bf16"),
        ),
        {"test_loss": ("loss, nats a token", 1), "test_tokenized_bleu": ("tokenized BLEU", 1)},
    ),
}
FIELDS = (
    *("problem", "method", "seed", "test_loss", "test_accuracy", "test_tokenized_bleu", "test_bleu"),
    *("rho", "gradient_evaluations", "step", "seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--root", type=Path, default=Path("data"), help="where the data sets are")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the csv file of all runs")
    parser.add_argument("--print", action="store_true", help="train nothing")
    parser.add_argument("--words", nargs="*", default=[], help="further settings of lets-train")
    asked = parser.parse_args()
    if not asked.print:
        run_all(asked.problem, asked.root.resolve(), asked.kept, asked.words)
    print(table(asked.problem, read(asked.kept)))
    if not asked.print:
        print(f"\n{baseline(asked.problem, asked.root)}")


def run_all(name: str, root: Path, kept: Path, more: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = root if name == "sst2" else short_pairs(root / "iwslt14", Path(folder) / "pairs")
        for method, words in METHODS.items():
            for seed in SEEDS:
                if any(key(row) == (name, method, str(seed)) for row in read(kept)):
                    continue
                output = Path(folder) / "runs"
                places = (quoted("data.root", data), quoted("output", output), "device=cpu", "progress=false")
                command = [sys.executable, "-m", "lets_runner", *PROBLEMS[name].words, *words, f"seed={seed}", *places]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run([*command, *more], env=environment, check=True, stdout=sys.stderr)
                [path] = (p for p in output.rglob(f"seed={seed}/summary.json") if is_of(p, words))
                summary = json.loads(path.read_text(encoding="utf-8"))
                row = {"problem": name, "method": method, **{field: summary.get(field, "") for field in FIELDS[2:]}}
                write(kept, [*read(kept), {field: shortened(row[field]) for field in FIELDS}])


def is_of(path: Path, words: Sequence[str]) -> bool:
    """Whether a summary is that of a method and its radius."""
    summary = json.loads(path.read_text(encoding="utf-8"))
    method, *radius = (word.partition("=")[2] for word in words)
    return summary["method"] == method and (not radius or summary["rho_start"] == float(radius[0]))


def shortened(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


def short_pairs(source: Path, folder: Path) -> Path:
    """The pairs of sentences of at most `LONGEST` words, as many as `MOST` has, in files of their own."""
    folder.mkdir()
    for part, names in PARTS.items():
        name = next(name for name in names if (source / f"{name}.de").exists())
        lines = [(source / f"{name}.{language}").read_text(encoding="utf-8").splitlines() for language in ("de", "en")]
        short = [pair for pair in zip(*lines, strict=True) if all(1 <= len(s.split()) <= LONGEST for s in pair)]
        for language, sentences in zip(("de", "en"), zip(*short[: MOST[part]], strict=True), strict=True):
            text = "".join(f"{sentence}\n" for sentence in sentences)
            (folder / f"{part}.{language}").write_text(text, encoding="utf-8")
    return folder


def quoted(setting: str, path: Path) -> str:
    """An override in quotes, for Hydra has a grammar."""
    return f"{setting}={QuotedString(str(path), Quote.single).with_quotes()}"


def key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["problem"], row["method"], row["seed"]


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """So that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".tmp")
    with whole.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["problem"], [*METHODS].index(row["method"]), row["seed"])))
    os.replace(whole, path)


# Printing.


def table(name: str, rows: Sequence[dict[str, str]]) -> str:
    scores = PROBLEMS[name].scores
    heads = ["method", *(title for title, _ in scores.values()), "ρ at the end", "gradient evaluations a step"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for method in METHODS:
        own = [row for row in rows if (row["problem"], row["method"]) == (name, method)]
        if own:
            cells = [
                shown([factor * float(row[score]) for row in own], factor) for score, (_, factor) in scores.items()
            ]
            rho = "–" if method == "ERM" else f"{statistics.mean(float(row['rho']) for row in own):.3g}"
            cost = statistics.mean(float(row["gradient_evaluations"]) / float(row["step"]) for row in own)
            lines.append(f"| {' | '.join([method, *cells, rho, f'{cost:.2f}'])} |")
    return "\n".join(lines)


def shown(values: Sequence[float], factor: float) -> str:
    digits = 1 if factor == 100 else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def baseline(name: str, root: Path) -> str:
    """What it takes no training to reach."""
    if name == "sst2":
        text = (root / "glue" / "SST-2" / "dev.tsv").read_text(encoding="utf-8")
        labels = [line.rsplit("\t", 1)[1] for line in text.splitlines()[1:]]
        return f"the larger class: {100 * max(map(labels.count, {*labels})) / len(labels):.1f} %"
    from sacrebleu.metrics import BLEU

    with tempfile.TemporaryDirectory() as folder:
        pairs = short_pairs(root / "iwslt14", Path(folder) / "pairs")
        source, target = ((pairs / f"test.{name}").read_text(encoding="utf-8").splitlines() for name in ("de", "en"))
    score = BLEU(tokenize="none", force=True).corpus_score(source, [target]).score
    return f"copying the source: tokenized BLEU {score:.2f}"


if __name__ == "__main__":
    main()

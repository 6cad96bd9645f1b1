"""Who may import whom, and what importing the library loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lets_runner

ROOT = Path(lets_runner.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# The parts of the package that each part may import; itself always.
ALLOWED = {
    "__init__": {"optim", "trained"},
    "__main__": {"cli", "interrupt"},
    "columns": set(),
    "console": set(),
    "interrupt": set(),
    "record": set(),
    "tokens": set(),
    "optim": set(),
    "extra": set(),
    "pretrained": {"extra"},
    "data": {"extra", "pretrained", "tokens"},
    "models": {"extra", "pretrained", "tokens", "weights"},
    "optimizers": set(),
    "schedules": set(),
    "later": set(),
    "weights": {"extra"},
    "finetune": {"run.checkpoint", "run.files", "weights"},
    "averaging": set(),
    "patience": {"columns"},
    "measures": {"columns", "extra"},
    "tasks": {"columns", "measures", "tokens"},
    "report": {"columns", "console", "keys", "run.files"},
    "config": {"keys", "later", "run.files", "signature"},
    "keys": set(),
    "messages": {"config", "keys"},
    "integrations": {"optim"},
    "signature": set(),
    "rerun": {"config", "run.files"},
    "distributed": {"optim"},
    "slurm": set(),
    "scoring": {"distributed", "tasks"},
    "trainer": {"averaging", "distributed", "optim", "patience", "record", "scoring", "tasks"},
    "run": {"__version__", "columns", "console", "record", "report", "slurm", "trackers", "trainer"},
    "run.files": set(),
    "sweep": {"console", "run"},
    "trackers": {"record", "report", "run.files"},
    "build": {
        "averaging",
        "config",
        "data",
        "distributed",
        "finetune",
        "later",
        "optim",
        "optimizers",
        "patience",
        "schedules",
        "signature",
        "tasks",
        "trainer",
    },
    "cli": {
        "build",
        "config",
        "console",
        "data",
        "distributed",
        "interrupt",
        "messages",
        "optim",
        "rerun",
        "run",
        "slurm",
        "sweep",
        "trackers",
    },
    "restore": {"config", "run"},
    "arguments": {"console"},
    "export": {"__version__", "arguments", "config", "data", "extra", "run.files", "tasks", "trained"},
    "evaluate": {"run.files"},
    "evaluate.command": {
        "arguments",
        "build",
        "cli",
        "config",
        "data",
        "evaluate",
        "measures",
        "messages",
        "restore",
        "run.files",
        "scoring",
        "tasks",
        "trained",
    },
    "trained": {"build", "config", "data", "extra", "restore", "run.files", "tasks"},
    "probe": {"arguments", "columns", "optim", "run", "tasks"},
    "probe.command": {"build", "config", "data", "probe", "restore", "run"},
}
# The same inside `optim`: from what every step is made of to what is built on it.
OPTIM = {
    "__init__": {"engine", "graphs", "rules", "sam", "step", "variants"},
    "engine": {"step"},
    "step": {"engine"},
    "sam": {"engine", "step"},
    "variants": {"engine", "sam", "step"},
    "rules": {"engine", "sam", "step"},
    "graphs": {"engine", "step"},
}
OUTSIDE = {
    "optim": {"torch"},
    "measures": {"torch", "sacrebleu"},
    "tasks": {"torch"},
    "pretrained": {"huggingface_hub"},
    "models": {"torch", "torchvision", "timm", "transformers", "peft"},
    "data": {"torch", "torchvision", "PIL", "imagecorruptions", "numpy", "sklearn", "tokenizers", "transformers"},
    "optimizers": {"torch", "timm"},
    "schedules": {"torch"},
    "weights": {"torch", "safetensors"},
    "finetune": {"torch"},
    "averaging": {"torch"},
    "report": {"matplotlib", "numpy", "scipy", "yaml", "jinja2", "markupsafe"},
    "distributed": {"torch"},
    "interrupt": {"joblib"},
    "integrations": {"lightning", "torch", "transformers"},
    "trainer": {"torch"},
    "run": {"torch", "tqdm"},
    "run.files": set(),
    "config": {"hydra", "omegaconf"},
    "messages": {"hydra", "omegaconf"},
    "rerun": {"hydra", "omegaconf", "yaml"},
    "sweep": {"hydra"},
    "trackers": {"torch", "numpy", "PIL", "mlflow", "wandb"},
    "build": {"torch", "numpy", "hydra", "omegaconf"},
    "cli": {"hydra", "omegaconf"},
    "probe": {"torch", "numpy", "scipy", "curvlinops", "matplotlib", "tqdm"},
    "probe.command": {"torch", "numpy"},
    "restore": {"omegaconf", "torch", "yaml"},
    "scoring": {"torch"},
    "export": {"torch"},
    "evaluate.command": {"hydra", "omegaconf", "torch"},
    "trained": {"omegaconf", "safetensors", "torch"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "lets_runner":
                yield from (f"lets_runner.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_plan(path):
    part, *inner = path.relative_to(ROOT).with_suffix("").parts
    rule = f"{part}.{inner[0]}" if inner and f"{part}.{inner[0]}" in {*ALLOWED, *OUTSIDE} else part
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "lets_runner":
            allowed = ALLOWED.get(rule, ALLOWED[part]) | {part}
            assert rest[0] in allowed or ".".join(rest[:2]) in allowed, f"{rule} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert top in OUTSIDE.get(rule, set()), f"{rule} imports {name}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "optim").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_imports_within_the_library_follow_the_plan(path):
    part = path.relative_to(ROOT / "optim").parts[0].removesuffix(".py")
    for name in imports(path):
        if name.startswith("lets_runner.optim."):
            assert name.split(".")[2] in OPTIM[part] | {part}, f"{part} imports {name}"


@pytest.mark.parametrize("name", ["lets_runner", "lets_runner.optim"])
def test_the_library_loads_torch_alone(name):
    unwanted = [
        "hydra",
        "omegaconf",
        "torchvision",
        "timm",
        "transformers",
        "tokenizers",
        "sacrebleu",
        "matplotlib",
        "sklearn",
        "tqdm",
        "tensorboard",
        "mlflow",
        "wandb",
    ]
    code = f"import sys, {name}; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    # torch may load tqdm by itself; that is none of ours
    assert set(ast.literal_eval(done.stdout)) <= {"tqdm"}


def test_libraries_of_extras_wait_until_they_are_needed():
    """Whoever trains on images needs none of them, and waits for none."""
    code = (
        "import sys, lets_runner.data, lets_runner.models, lets_runner.tasks, lets_runner.build;"
        "print([m for m in ('timm', 'transformers', 'tokenizers', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_torch_waits_until_an_optimizer_is_asked_for():
    code = (
        "import sys, lets_runner; before = 'torch' in sys.modules; names = dir(lets_runner);"
        "from lets_runner import LETS; print(before, 'torch' in sys.modules, {*lets_runner.__all__} == {*names})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False True True\n"
    with pytest.raises(AttributeError, match="no attribute 'Lets'"):
        lets_runner.Lets  # noqa: B018
    assert lets_runner.LETS is lets_runner.optim.LETS


def test_all_names_are_public_and_there():
    import lets_runner.optim

    assert {*lets_runner.__all__} - {"__version__", "Trained", "load"} == {*lets_runner.optim.__all__}
    for name in lets_runner.__all__:
        assert getattr(lets_runner, name) is not None
        assert name == "__version__" or not name.startswith("_")

"""How a trained model is written in each format, and how far the scores of the file are from the model's own."""

import json
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets_runner import __version__
from lets_runner.data import Transform
from lets_runner.extra import missing
from lets_runner.run.files import write_whole
from lets_runner.tasks import Translation
from lets_runner.trained import KEY, Trained, load

BATCHES = (2, 3, 1)  # sizes of the batches that are compared; the first is what is traced
OUTPUT = "outputs"
INPUT = "inputs"
ABOUT = ("method", "data", "model", "seed", "status", "epochs", "data_identity")  # of a summary


def metadata(trained: Trained) -> dict[str, Any]:
    """What a file says of itself."""
    return {
        "config": trained.config,
        "inputs": trained.inputs,
        "class_names": trained.class_names,
        "checkpoint": trained.checkpoint,
        "step": trained.step,
        "summary": {key: value for key, value in trained.summary.items() if key in ABOUT or key.startswith("test_")},
        "versions": {"lets_runner": __version__, "torch": version("torch")},
    }


def write_safetensors(trained: Trained, path: Path) -> tuple[float, int]:
    """Weights, for `lets_runner.load` to read."""
    save = _library("safetensors.torch").save
    # Weights that are shared, as embeddings may be, stand there once for each name.
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    content = save(weights, {"format": "pt", KEY: json.dumps(metadata(trained))})
    write_whole(path, lambda file: file.write(content))
    again = load(path, device="cpu").model
    if isinstance(trained.task, Translation):
        equal = all(torch.equal(again.state_dict()[name], tensor) for name, tensor in weights.items())
        return (0.0 if equal else float("inf")), 0
    restored = _Named(again, trained)
    return _compared(trained, lambda inputs: restored(*inputs))


def write_onnx(trained: Trained, path: Path) -> tuple[float, int]:
    """The network, for any runtime of ONNX; batches may be of any size."""
    _check_plain(trained, "onnx")
    runtime = _library("onnxruntime")
    _library("onnxscript")
    network, inputs = _Named(trained.model, trained), example(trained, BATCHES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that several inputs have one batch size
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            dynamic_shapes=(_dynamic(inputs),),
            input_names=network.names,
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[KEY] = json.dumps(metadata(trained))
    program.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def scores(inputs: Sequence[Tensor]) -> Tensor:
        [found] = session.run([OUTPUT], dict(zip(network.names, (each.numpy() for each in inputs), strict=True)))
        return torch.from_numpy(found)

    return _compared(trained, scores)


def write_torch(trained: Trained, path: Path) -> tuple[float, int]:
    """The network as `torch.export` traces it, for `torch.export.load`; batches may be of any size."""
    _check_plain(trained, "torch")
    network, inputs = _Named(trained.model, trained), example(trained, BATCHES[0])
    program = torch.export.export(network, inputs, dynamic_shapes=(_dynamic(inputs),))
    torch.export.save(program, path, extra_files={f"{KEY}.json": json.dumps(metadata(trained))})
    again = torch.export.load(path).module()
    return _compared(trained, lambda inputs: again(*inputs))


FORMATS: dict[str, Callable[[Trained, Path], tuple[float, int]]] = {
    "safetensors": write_safetensors,
    "onnx": write_onnx,
    "torch": write_torch,
}
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}


class _Named(nn.Module):
    """A network whose inputs are tensors one after the other, by `names`, as files have them."""

    def __init__(self, model: nn.Module, trained: Trained):
        super().__init__()
        self.model = model
        batch = _batch(_transform(trained), 1)
        self.names = [INPUT] if isinstance(batch, Tensor) else list(getattr(model, "takes", batch))
        self._by_name = not isinstance(batch, Tensor)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(dict(zip(self.names, inputs, strict=True)) if self._by_name else inputs[0])


def example(trained: Trained, count: int) -> tuple[Tensor, ...]:
    """Random inputs of the network, always the same."""
    batch = _batch(_transform(trained), count)
    if isinstance(batch, Tensor):
        return (batch,)
    return tuple(batch[name] for name in _Named(trained.model, trained).names)


def _batch(transform: Transform, count: int) -> Any:
    generator = torch.Generator().manual_seed(count)
    if transform.kind == "images":
        shape: Any = transform.input_shape
        return transform(torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8))
    if transform.kind == "vectors":
        return torch.randn((count, *transform.input_shape), generator=generator)
    shape = transform.input_shape
    ids = torch.randint(0, min(shape.vocabulary, 100), (count, shape.length), generator=generator)
    mask = torch.ones_like(ids)
    mask[:, shape.length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def _transform(trained: Trained) -> Transform:
    if trained.transform is None:
        raise ValueError("this run has not written down what its model takes; finish it with this version")
    return trained.transform


def _dynamic(inputs: Sequence[Tensor]) -> tuple[dict[int, Any], ...]:
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in inputs)


def _compared(trained: Trained, scores: Callable[[Sequence[Tensor]], Tensor]) -> tuple[float, int]:
    """The largest difference, in units of the largest score where that is above 1; and of how many examples."""
    network, worst = _Named(trained.model, trained), 0.0
    with torch.no_grad():
        for count in BATCHES:
            inputs = example(trained, count)
            own, other = network(*inputs), scores(inputs)
            if own.shape != other.shape:
                return float("inf"), count
            gap = (own - other).abs().max() / max(1.0, float(own.abs().max()))
            worst = max(worst, float(gap.nan_to_num(float("inf"))))
    return worst, sum(BATCHES)


def _check_plain(trained: Trained, form: str) -> None:
    if isinstance(trained.task, Translation):
        raise ValueError(
            f"--format {form}: beam search is a loop around the network, which one graph does not hold; take "
            "--format safetensors"
        )


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise missing(name.split(".")[0], "export") from error

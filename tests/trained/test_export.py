"""`lets-export`: files that other programs read, against the model in memory."""

import json
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import train, write_glue
from corpus import write_corpus
from safetensors import safe_open

import lets_runner
from lets_runner.export import command, formats

LITTLE = ("model=auto_text", "model.depth=1", "model.width=16", "data.vocabulary_size=300", "data.max_length=16")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = ("model.batch_norm=true", "method=sam", "precision=fp32", "device=cpu")
    return train(tmp_path_factory.mktemp("runs"), *words)


@pytest.fixture
def lets_export(monkeypatch, capfd):
    def call(*arguments):
        monkeypatch.setattr("warnings.showwarning", None)
        monkeypatch.setattr(sys, "argv", ["lets-export", *map(str, arguments)])
        code = 0
        try:
            command.main()
        except SystemExit as stop:
            code = stop.code
        return (code or 0, *capfd.readouterr())

    return call


def pixels(count):
    return torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_weights_as_safetensors_are_the_runs(run, tmp_path, lets_export):
    path = tmp_path / "model.safetensors"
    code, out, err = lets_export(run, "--out", path, "--checkpoint", "last")
    assert (code, err) == (0, "") and out.startswith(f"{path}: ")
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["lets_runner"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)
    assert facts["class_names"] == list("0123456789") and facts["config"]["sam"]["rho"] == 0.05
    assert facts["summary"]["test_accuracy"] == json.loads((run / "summary.json").read_text())["test_accuracy"]
    again, trained = lets_runner.load(path, device="cpu"), lets_runner.load(run, "last", device="cpu")
    assert torch.equal(again.predict(pixels(7)), trained.predict(pixels(7)))
    assert (again.step, again.checkpoint, again.class_names) == (trained.step, "last", trained.class_names)


def test_onnx_runs_elsewhere_with_the_same_scores(run, tmp_path, lets_export):
    path = tmp_path / "model.onnx"
    assert lets_export(run, "--format", "onnx", "--out", path)[0] == 0
    onnx.checker.check_model(path)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["lets_runner"])["class_names"][7] == "7"
    trained = lets_runner.load(run, device="cpu")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 5):
        [scores] = session.run(None, {"inputs": trained.transform(pixels(count)).numpy()})
        np.testing.assert_allclose(scores, trained.predict(pixels(count)).numpy(), atol=1e-5)


def test_torch_export_needs_no_class_of_ours(run, tmp_path, lets_export):
    path = tmp_path / "model.pt2"
    assert lets_export(run, "--format", "torch", "--out", path)[0] == 0
    extra = {"lets_runner.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    trained = lets_runner.load(run, device="cpu")
    inputs = trained.transform(pixels(9))
    torch.testing.assert_close(program(inputs), trained.predict(pixels(9)), atol=1e-5, rtol=0)
    assert json.loads(extra["lets_runner.json"])["checkpoint"] == "best"


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_networks_of_texts_take_their_inputs_by_name(tmp_path, lets_export, form):
    root = write_glue(tmp_path / "data", "rte")
    words = ("data=glue", *LITTLE, "batch_size=8", "data.val_fraction=0.2", "data.task=rte", f"data.root={root}")
    run = train(tmp_path / "runs", *words, "epochs=1", "precision=fp32", "device=cpu")
    code, _, err = lets_export(run, "--format", form)
    assert (code, err) == (0, "")
    path = run / "export" / f"best.{form}"
    pairs = [("a so b", "c"), ("so", "so so d e f")]
    trained = lets_runner.load(run, device="cpu")
    expected = trained.predict(pairs).numpy()
    if form == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        batch = trained.transform(pairs)
        [scores] = session.run(None, {one.name: batch[one.name].numpy() for one in session.get_inputs()})
    else:
        scores = lets_runner.load(path, device="cpu").predict(pairs).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_translator_is_exported_as_weights_alone(tmp_path, lets_export):
    root = write_corpus(tmp_path / "text", train=80)
    words = ("data=iwslt14", f"data.root={root}", "data.merges=40", "data.max_tokens=200", "batch_size=24")
    words += ("task=translation", "task.beam=2", "model=transformer_iwslt", "model.layers=1", "model.width=16")
    run = train(tmp_path / "runs", *words, "model.hidden=32", "model.heads=2", "precision=fp32", "device=cpu")
    shutil.rmtree(root)
    code, out, err = lets_export(run)
    assert (code, err) == (0, "") and out.endswith("; read again, and the same\n")
    again, trained = lets_runner.load(run / "export" / "best.safetensors", device="cpu"), lets_runner.load(run)
    sentences = ["a b", "c"]
    assert again.predict(sentences) == trained.predict(sentences) and len(again.predict(sentences)) == 2
    code, _, err = lets_export(run, "--format", "onnx")
    assert code == 2 and "beam search is a loop around the network" in err and err.count("\n") == 1


def test_a_file_with_other_scores_is_not_left(run, tmp_path, lets_export, monkeypatch):
    before = formats.FORMATS["safetensors"]
    monkeypatch.setitem(formats.FORMATS, "safetensors", lambda *words: (before(*words)[0] + 1e-4, 6))
    code, _, err = lets_export(run, "--out", tmp_path / "model.safetensors")
    assert code == 2 and "is not written: its scores are 0.0001 away from the model's" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "lets-export: nope: there is no such run directory\n"),
        (["RUN", "--out", "a.txt"], "lets-export: --out a.txt: of --format safetensors a file's name must end in"),
        (["RUN", "--format", "keras"], "lets-export: argument --format: invalid choice: 'keras'"),
        ([], "lets-export: the following arguments are required: RUN; lets-export --help shows all\n"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(run, lets_export, words, message):
    code, _, err = lets_export(*[run if word == "RUN" else word for word in words])
    assert code == 2 and err.startswith(message) and err.count("\n") == 1


def test_without_the_extra_one_line_names_it(run, tmp_path, lets_export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = lets_export(run, "--format", "onnx", "--out", tmp_path / "a.onnx")
    assert code == 2 and "pip install 'lets_runner[export]'" in err and err.count("\n") == 1


def test_a_damaged_file_is_named(run, tmp_path, lets_export):
    path = tmp_path / "model.safetensors"
    lets_export(run, "--out", path)
    shutil.copy(path, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut.safetensors: is no file that lets-export has written"):
        lets_runner.load(tmp_path / "cut.safetensors")

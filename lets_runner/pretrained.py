"""Pretrained models: files of the machine's own, or what the Hugging Face Hub has.

Nothing in them is unpickled: weights are safetensors, or read by torch with `weights_only`.
"""

import warnings
from pathlib import Path

from lets_runner.extra import missing

SMALL = ("*.json", "*.txt", "*.model")  # configuration and tokenizer
WEIGHTS = (
    ("*.safetensors",),
    ("pytorch_model*.bin",),
)  # those that are there are taken, the first kind if there are both
REMEDY = (
    "put config.json, model.safetensors or pytorch_model.bin, and the tokenizer's files (tokenizer.json, or vocab.json "
    "and merges.txt, or vocab.txt) into a folder, and give that"
)


def folder(name: str, *, weights: bool) -> Path:
    """Where the files of a pretrained model are: `name` itself, or what was fetched from the hub under this name.

    Args:
        weights: whether those are needed too, or only configuration and tokenizer.

    Raises:
        ValueError: it is no folder, and nothing can be fetched; one line that says which files to put where.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    try:
        found = _fetch(name, SMALL)
        if weights and not any(any(_fetch(name, kind).glob(kind[0])) for kind in WEIGHTS):
            raise ValueError("it has no weights of a kind that is read here")
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{name} is no folder here, and the hub does not give it ({reason}); {REMEDY}") from error
    return found


def weights_file(name: str) -> Path:
    """The file of weights that the hub has under this name, fetched, or from its cache.

    Raises:
        ValueError: nothing can be fetched; a few words that say why.
    """
    for kind in WEIGHTS:
        try:
            found = sorted(_fetch(name, kind).glob(kind[0]))
        except (OSError, ValueError) as error:
            raise ValueError(str(error).split("\n")[0]) from error
        if len(found) == 1:
            return found[0]
    raise ValueError(f"{name} has no single file of weights of a kind that is read here")


def _fetch(name: str, patterns: tuple[str, ...]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise missing("huggingface_hub", "text") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Path(snapshot_download(name, allow_patterns=list(patterns)))

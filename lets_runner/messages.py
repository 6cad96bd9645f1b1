"""One line for what Hydra and OmegaConf say in several, in words of the command line."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from lets_runner.config import COMPONENTS
from lets_runner.keys import all_keys, proposal


def one_line(error: Exception, overrides: list[str]) -> str:
    """One line for what Hydra and OmegaConf say in several; `overrides` are the words of the command line."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    return " ".join(_explained("\n".join(map(str, causes)), causes, overrides).split())


# Which of our extras brings a plugin of Hydra that a preset builds on.
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray", "joblib": "sweep", "optuna": "sweep"}


def _explained(text: str, causes: list[Exception], overrides: list[str]) -> str:
    if is_about_groups(causes[0]):
        return _no_choice(overrides)
    if match := re.search(r"Key '(.+?)' (?:is not in struct|not in '\w+')\n\s+full_key: (\S+)", text):
        return _unknown_key(match[2], causes, overrides)
    if (match := re.search(r"Could not (?:load|find) '(hydra/\w+)/(\w+)'", text)) and match[2] in EXTRAS:
        return f"{match[1]}: {match[2]} needs an extra: pip install 'lets_runner[{EXTRAS[match[2]]}]'"
    if match := re.search(r"Could not find '([\w/]+)/(.+?)'\n\nAvailable options in '[\w/]+':\n(.*)", text, re.S):
        options = match[3].split("\nConfig search path")[0].split()
        return f"{match[1]}={match[2]}: there is no such {match[1]}; choose one of {', '.join(options)}"
    if match := re.search(r"Could not load '([a-z]+)/(.+?)'", text):
        return f"{match[1]}={match[2]}: there is no such {match[1]}; lets-train --help lists them"
    if match := re.search(r"((?:Value|Invalid value) '.*?'.*)\n\s+full_key: (\S+)", text):
        return f"{match[2]}: {match[1]}"
    return text


def is_about_groups(error: Exception) -> bool:
    """Whether Hydra says that what stands for a choice of a group is no name; a bare ValueError."""
    return str(error).startswith("Config group override must be")


def _no_choice(overrides: list[str]) -> str:
    groups = (*COMPONENTS, "method", "logger", "experiment", "sweep")
    parsed = [
        (word, OverridesParser.create().parse_override(word)) for word in overrides if word.split("=")[0] in groups
    ]
    word = next(
        (word for word, one in parsed if one.is_sweep_override() or not isinstance(one.value(), str | list)), ""
    )
    return f"{word}: must name a choice of this group, or be left out; lets-train --help lists them"


def _unknown_key(key: str, causes: list[Exception], overrides: list[str]) -> str:
    word = next((word for word in overrides if word.lstrip("+~").split("=")[0] == key), key)
    return (
        f"{word}: there is no key {key}{proposal(key, _known_keys(key, causes)) or '; lets-train --cfg job shows all'}"
    )


def _known_keys(key: str, causes: list[Exception]) -> list[str]:
    """All keys that there are: OmegaConf's error knows the node that was asked for an unknown one."""
    node = next((node for cause in causes if isinstance(node := getattr(cause, "parent_node", None), DictConfig)), None)
    if node is None:
        return []
    whole = OmegaConf.to_container(node._get_root(), resolve=False)
    assert isinstance(whole, dict)
    return [known for known in all_keys(whole) if known.startswith("hydra") == key.startswith("hydra")]

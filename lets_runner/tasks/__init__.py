"""Tasks: the loss of a batch, and what is measured of it."""

from lets_runner.tasks.classification import Classification
from lets_runner.tasks.glue import glue
from lets_runner.tasks.regression import Regression
from lets_runner.tasks.task import Output, Part, Task
from lets_runner.tasks.translation import Translation

__all__ = ["Classification", "Output", "Part", "Regression", "Task", "Translation", "glue"]

"""GLUE: for each of its tasks the loss and the measures that the benchmark asks for."""

from lets_runner.measures import F1, MCC, Accuracy, Measure, Pearson, Spearman
from lets_runner.tasks.classification import Classification
from lets_runner.tasks.regression import Regression
from lets_runner.tasks.task import Task


def glue(*, task: str, label_smoothing: float = 0.0) -> Task:
    """What Wang et al. 2019 (arXiv 1804.07461, section 3) measure; the first number chooses.

    STS-B asks for the correlations of predicted scores with those of people, Pearson's and Spearman's, and is trained
    on the squared error; CoLA for Matthews' coefficient; MRPC and QQP for accuracy and F1; the others for accuracy.

    Args:
        task: as `data=glue` calls it.
        label_smoothing: of classification; see `Classification`.
    """
    if task == "stsb":
        if label_smoothing:
            raise ValueError(
                f"label_smoothing={label_smoothing}: task={task} has scores, and no labels to smooth; leave it 0"
            )
        return Regression(measures=[Pearson(), Spearman()], selects="pearson")
    measures: list[Measure] = {"cola": [MCC(), Accuracy()]}.get(task, [Accuracy()])
    if task in ("mrpc", "qqp"):
        measures = [Accuracy(), F1()]
    return Classification(label_smoothing=label_smoothing, measures=measures, selects=measures[0].columns[0].name)

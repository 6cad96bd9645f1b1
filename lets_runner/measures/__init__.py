"""Measures: scores of predictions, made of sums over examples."""

from lets_runner.measures.accuracy import Accuracy
from lets_runner.measures.binary import F1, MCC
from lets_runner.measures.bleu import Bleu
from lets_runner.measures.calibration import ECE, NLL, Brier
from lets_runner.measures.correlation import Pearson, Spearman
from lets_runner.measures.measure import Measure, PooledMeasure
from lets_runner.measures.perplexity import Perplexity
from lets_runner.measures.regression import SquaredError

__all__ = [
    "ECE",
    "F1",
    "MCC",
    "NLL",
    "Accuracy",
    "Bleu",
    "Brier",
    "Measure",
    "Pearson",
    "Perplexity",
    "PooledMeasure",
    "Spearman",
    "SquaredError",
]

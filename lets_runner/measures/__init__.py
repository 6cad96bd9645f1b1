"""Measures: scores of predictions, made of sums over examples."""

from lets_runner.measures.accuracy import Accuracy
from lets_runner.measures.binary import F1, MCC
from lets_runner.measures.bleu import Bleu
from lets_runner.measures.correlation import Pearson, Spearman
from lets_runner.measures.measure import Measure, PooledMeasure
from lets_runner.measures.perplexity import Perplexity
from lets_runner.measures.regression import SquaredError

__all__ = [
    "F1",
    "MCC",
    "Accuracy",
    "Bleu",
    "Measure",
    "Pearson",
    "Perplexity",
    "PooledMeasure",
    "Spearman",
    "SquaredError",
]

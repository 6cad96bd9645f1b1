"""Measures: scores of predictions, made of sums over examples."""

from lets_runner.measures.accuracy import Accuracy
from lets_runner.measures.bleu import Bleu
from lets_runner.measures.measure import Measure
from lets_runner.measures.perplexity import Perplexity
from lets_runner.measures.regression import SquaredError

__all__ = ["Accuracy", "Bleu", "Measure", "Perplexity", "SquaredError"]

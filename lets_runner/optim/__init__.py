"""Sharpness-aware optimizers, and the rules that learn their radius. Needs torch alone."""

from lets_runner.optim.ae_sam import AESAM, AELookSAM
from lets_runner.optim.asam import ASAM
from lets_runner.optim.batchnorm import frozen_statistics
from lets_runner.optim.esam import ESAM
from lets_runner.optim.f_sam import FSAM
from lets_runner.optim.finite import NonFiniteError
from lets_runner.optim.fisher_sam import FisherSAM
from lets_runner.optim.gap_matching import GapMatching
from lets_runner.optim.graphed import GraphedStep
from lets_runner.optim.gsam import GSAM
from lets_runner.optim.horizon import HorizonLETS
from lets_runner.optim.le_sam import LESAM
from lets_runner.optim.lets import LETS
from lets_runner.optim.looksam import LookSAM
from lets_runner.optim.loss_match import LossMatching
from lets_runner.optim.m_sam import MSAM
from lets_runner.optim.radius import FixedRadius, RadiusRule
from lets_runner.optim.ramp import Ramp
from lets_runner.optim.rehearsal import NotGraphableError
from lets_runner.optim.rst import RST
from lets_runner.optim.sam import SAM
from lets_runner.optim.schedules import CosineRadius, LearningRateRadius, LinearRadius, PiecewiseRadius
from lets_runner.optim.step import Last, Observer, Step
from lets_runner.optim.unperturbed import UnperturbedSAM
from lets_runner.optim.vasso import VaSSO
from lets_runner.optim.wsam import WSAM

__all__ = [
    "AESAM",
    "ASAM",
    "ESAM",
    "FSAM",
    "GSAM",
    "LESAM",
    "LETS",
    "MSAM",
    "RST",
    "SAM",
    "WSAM",
    "AELookSAM",
    "CosineRadius",
    "FisherSAM",
    "FixedRadius",
    "GapMatching",
    "GraphedStep",
    "HorizonLETS",
    "Last",
    "LearningRateRadius",
    "LinearRadius",
    "LookSAM",
    "LossMatching",
    "NonFiniteError",
    "NotGraphableError",
    "Observer",
    "PiecewiseRadius",
    "RadiusRule",
    "Ramp",
    "Step",
    "UnperturbedSAM",
    "VaSSO",
    "frozen_statistics",
]

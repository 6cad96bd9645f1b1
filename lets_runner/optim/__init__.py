"""Sharpness-aware optimizers, and the rules that learn their radius. Needs torch alone."""

from lets_runner.optim.engine.batchnorm import frozen_statistics
from lets_runner.optim.engine.finite import NonFiniteError
from lets_runner.optim.graphs.graphed import GraphedStep
from lets_runner.optim.graphs.rehearsal import NotGraphableError
from lets_runner.optim.rules.gap_matching import GapMatching
from lets_runner.optim.rules.horizon import HorizonLETS
from lets_runner.optim.rules.lets import LETS
from lets_runner.optim.rules.loss_match import LossMatching
from lets_runner.optim.rules.radius import FixedRadius, RadiusRule
from lets_runner.optim.rules.ramp import Ramp
from lets_runner.optim.rules.schedules import CosineRadius, LearningRateRadius, LinearRadius, PiecewiseRadius
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Last, Observer, Step
from lets_runner.optim.variants.ae_sam import AESAM, AELookSAM
from lets_runner.optim.variants.asam import ASAM
from lets_runner.optim.variants.esam import ESAM
from lets_runner.optim.variants.f_sam import FSAM
from lets_runner.optim.variants.fisher_sam import FisherSAM
from lets_runner.optim.variants.gsam import GSAM
from lets_runner.optim.variants.le_sam import LESAM
from lets_runner.optim.variants.looksam import LookSAM
from lets_runner.optim.variants.m_sam import MSAM
from lets_runner.optim.variants.momentum_sam import MomentumSAM
from lets_runner.optim.variants.rst import RST
from lets_runner.optim.variants.sam_on import SAMON
from lets_runner.optim.variants.sampa import SAMPa
from lets_runner.optim.variants.unperturbed import UnperturbedSAM
from lets_runner.optim.variants.vasso import VaSSO
from lets_runner.optim.variants.wsam import WSAM

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
    "SAMON",
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
    "MomentumSAM",
    "NonFiniteError",
    "NotGraphableError",
    "Observer",
    "PiecewiseRadius",
    "RadiusRule",
    "Ramp",
    "SAMPa",
    "Step",
    "UnperturbedSAM",
    "VaSSO",
    "frozen_statistics",
]

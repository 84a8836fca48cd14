"""Experiments: every result of this project as a named, frozen plan, and the steps that produce it."""

from watchtrylearn.experiments.plan import Experiment as Experiment
from watchtrylearn.experiments.plan import Method as Method
from watchtrylearn.experiments.presets import EXPERIMENTS as EXPERIMENTS
from watchtrylearn.experiments.presets import experiment as experiment

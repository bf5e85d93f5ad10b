"""What a training takes, reckoned from its config before a GPU is hired."""

from .model import ModelCosts, model_costs
from .peaks import WAYS, measure_peaks
from .training_needs import Plan, format_plans, plan_training

__all__ = ["WAYS", "ModelCosts", "Plan", "format_plans", "measure_peaks", "model_costs", "plan_training"]

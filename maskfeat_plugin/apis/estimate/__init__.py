"""Estimates of the memory and time that a training needs, computed from its config without a GPU."""

from .model import ModelCosts, model_costs
from .peaks import WAYS, measure_peaks
from .training_needs import Plan, format_plans, plan_training

__all__ = ["WAYS", "ModelCosts", "Plan", "format_plans", "measure_peaks", "model_costs", "plan_training"]

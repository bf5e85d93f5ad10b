"""What drives the training: optimizer constructors."""

from .optim_wrapper_constructors import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor

__all__ = ["GroupedOptimWrapperConstructor", "LayerDecayOptimWrapperConstructor"]

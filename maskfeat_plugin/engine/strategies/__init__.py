"""Strategies of mmengine's ``FlexibleRunner``."""

from .fsdp import FSDPStrategy

__all__ = ["FSDPStrategy"]

"""Export of models to ONNX and to torch.export."""

from .export import export_model

__all__ = ["export_model"]

"""Arithmetic: tensors in, tensors out. Every fast path and the gate that decides about them."""

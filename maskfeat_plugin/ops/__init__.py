"""Arithmetic on tensors: every fast path, and the gate that decides whether a fast path may run."""

"""Times and memory of the plugin's parts against the packages that do the same job, in one process."""

from .costs import Cost, costs
from .measuring import Comparison, Measurement, measure, peak_memory
from .plain_masks import cubes_by_loops
from .report import describe_machine, format_changes, format_costs, format_table, read_run, write_run
from .rows import comparisons
from .steps import compare_steps, input_size, mask_generator

__all__ = [
    "Comparison",
    "Cost",
    "Measurement",
    "compare_steps",
    "comparisons",
    "costs",
    "cubes_by_loops",
    "describe_machine",
    "format_changes",
    "format_costs",
    "format_table",
    "input_size",
    "mask_generator",
    "measure",
    "peak_memory",
    "read_run",
    "write_run",
]

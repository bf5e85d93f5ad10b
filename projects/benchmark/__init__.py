"""Benchmarks that compare times and memory of the plugin with packages that do the same job, in one process."""

from projects.benchmark.costs import Cost, costs
from projects.benchmark.counted_work import count_steps, format_counted_work
from projects.benchmark.device_checks import DeviceCheck, check_device, format_checks
from projects.benchmark.measuring import Comparison, Measurement, measure
from projects.benchmark.plain_masks import cubes_by_loops
from projects.benchmark.result_tables import (
    describe_machine,
    format_changes,
    format_costs,
    format_table,
    read_run,
    write_run,
)
from projects.benchmark.rows import comparisons
from projects.benchmark.steps import compare_steps

__all__ = [
    "Comparison",
    "Cost",
    "DeviceCheck",
    "Measurement",
    "compare_steps",
    "comparisons",
    "costs",
    "count_steps",
    "cubes_by_loops",
    "describe_machine",
    "check_device",
    "format_changes",
    "format_checks",
    "format_costs",
    "format_counted_work",
    "format_table",
    "measure",
    "read_run",
    "write_run",
]

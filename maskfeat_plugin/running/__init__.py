"""Trainings and tests around mmengine's runner: processes, bad data, logs, versions."""

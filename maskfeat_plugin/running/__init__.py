"""Training and testing with mmengine's runner: processes, bad data, logs, versions."""

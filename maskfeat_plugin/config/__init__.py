"""Reads a config, checks it, and says which key is wrong."""

"""Suites as data: one TOML file each."""

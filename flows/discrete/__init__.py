"""Discrete flows: a finite stack of invertible layers."""

version = 2  # 2: fewer element operations and saved bytes
pace = 2

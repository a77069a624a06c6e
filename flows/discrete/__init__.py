"""Discrete flows: a finite stack of invertible layers."""

version = 1
pace = 1

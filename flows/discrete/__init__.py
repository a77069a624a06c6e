"""Discrete flows: a finite stack of invertible layers."""

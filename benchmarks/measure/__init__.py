"""Measures: operations by dispatch, seconds in shuffled rounds, the machine."""

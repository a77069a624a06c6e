"""Measurement: clock, operators, memory, machine, and the calls of a flow that are measured."""

"""Measurement: clock, operators, memory, machine, and the calls of a flow that are measured."""

version = 1  # raised when a change moves what is counted
pace = 1  # raised when it moves measured times or bytes alone

"""Flows of other libraries, behind this one's interface."""

version = 1
pace = 1

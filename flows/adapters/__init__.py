"""Flows of other libraries, behind this one's interface."""

version = 2
pace = 2

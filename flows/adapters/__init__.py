"""Flows of other libraries, behind this one's interface."""

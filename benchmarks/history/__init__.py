"""Figures of commit after commit: one line of JSON each, the steps between them, and their page."""

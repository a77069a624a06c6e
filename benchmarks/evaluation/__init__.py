"""Judging a density: likelihood, samples, modes, paths, identities."""

"""Of a density: its likelihood, samples beside data, modes, the field behind it, its pictures."""

"""Statistics, scaling laws and cost models: numbers in, numbers out."""

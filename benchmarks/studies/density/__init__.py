"""How good are the densities, and what do they cost?"""

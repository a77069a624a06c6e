"""How many evaluations does the solver need, and for what error?"""

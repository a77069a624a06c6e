"""How accurate is the adjoint's gradient, and what does it cost?"""

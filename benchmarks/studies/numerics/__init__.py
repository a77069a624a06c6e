"""How accurate are gradients through an ODE, and do the equalities hold that flows are built on?"""

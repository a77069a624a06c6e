"""Do the equalities hold on which continuous flows are built?"""

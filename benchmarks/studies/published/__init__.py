"""How do our figures compare with those of the papers?"""

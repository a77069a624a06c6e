"""Which flow fits this table best, in the time that there is?"""

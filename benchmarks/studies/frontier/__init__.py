"""Which family reaches which likelihood, with equal effort, at which budget?"""

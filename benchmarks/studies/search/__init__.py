"""Which family reaches which likelihood with equal effort, and which is best on one table?"""

"""Which library is fastest, and is it as accurate?"""

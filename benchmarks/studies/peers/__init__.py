"""Which library is fastest at the same error, and which learns most?"""

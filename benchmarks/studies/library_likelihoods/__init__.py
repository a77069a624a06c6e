"""Which library learns most in equal updates, and in equal seconds?"""

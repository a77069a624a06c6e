"""Who is fastest at the same error?"""

"""Do flows miss modes, and how much mass do they put between them?"""

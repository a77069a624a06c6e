"""What does a trace cost compared with a determinant, and how large is its error?"""

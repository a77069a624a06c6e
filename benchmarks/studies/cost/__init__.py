"""What does a call cost, and how does the cost grow with its sizes?"""

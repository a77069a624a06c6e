"""How many seconds, updates and FLOPs does each flow take to reach a given likelihood?"""

"""The benchmark: all methods under one budget, from the search of their settings to the answers."""

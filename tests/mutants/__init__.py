"""Faults put into the mathematics, one at a time, to see which test catches each."""

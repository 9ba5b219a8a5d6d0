"""Modifications of the shared head's gradient, as MLA applies them before each step."""

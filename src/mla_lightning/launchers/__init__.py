"""How many jobs run: one forked process each, or one after another in this process."""

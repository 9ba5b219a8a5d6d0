"""Sweeps and launchers: many jobs, in forked processes or one after another in this process."""

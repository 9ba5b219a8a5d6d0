"""One HTML page of everything that was run."""

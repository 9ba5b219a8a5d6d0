"""The HTML page of all runs, with its tables and figures as files beside it."""

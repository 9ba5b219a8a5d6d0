"""The command line: the verbs of `mla`."""

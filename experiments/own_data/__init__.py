"""Scripts that write the files of data sets that the framework does not know."""

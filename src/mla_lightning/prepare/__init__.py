"""From the official files of a data set to a prepared store."""

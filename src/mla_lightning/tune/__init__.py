"""Search of settings on the validation split, with the same number of trials for every method."""

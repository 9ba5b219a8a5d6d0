"""One job: building, training and evaluation, the record of the run, and use of its model."""

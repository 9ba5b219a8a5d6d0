"""One job: build it, train it, evaluate it, and record what came out."""

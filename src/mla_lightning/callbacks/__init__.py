"""What happens around training: checkpoints, the epoch table, signals."""

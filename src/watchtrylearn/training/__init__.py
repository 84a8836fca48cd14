"""Meta-training: updates, sources of batches, the loop, checkpoints and the log."""

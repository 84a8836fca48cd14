"""Episodes on disk (``store``, ``lerobot``, ``verify``), as tensors (``batches``), sampled and normalised."""

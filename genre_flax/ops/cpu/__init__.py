"""CPU kernels of the operations."""

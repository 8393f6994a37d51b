"""What the machine gives: CPUs and their quota, memory, affinity, BLAS threads."""

"""What benchmarks share: rows, processes, paired rounds, and the peers to compare with."""

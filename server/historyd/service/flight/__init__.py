"""The Arrow Flight door: the same history for whatever speaks Flight, on the same port, with no code of ours."""

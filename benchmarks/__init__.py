"""Measurements: each module here is one, with a `run()` that returns what it found. The rig they share is in `rig`."""

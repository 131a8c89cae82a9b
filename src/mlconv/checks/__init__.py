"""Evidence: structure, loading, parity, and the commands that ask for it alone."""

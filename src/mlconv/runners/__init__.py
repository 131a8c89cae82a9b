"""One runtime a file; parity, check and compare share them."""

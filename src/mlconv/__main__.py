"""``python -m mlconv``."""

from mlconv.cli import main

if __name__ == "__main__":
    main()

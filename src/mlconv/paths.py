"""Folders of mlconv's own."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$MLCONV_CACHE_DIR``, else ``$XDG_CACHE_HOME/mlconv``, else ``~/.cache/mlconv``."""
    own = os.environ.get("MLCONV_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlconv"


def logs_folder() -> Path:
    """Where logs of failed workers are kept."""
    return cache_folder() / "logs"

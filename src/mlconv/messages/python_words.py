"""What a user's own code meets wherever it runs: no network, packages that do not fit each other."""

from __future__ import annotations

import re

from mlconv.errors import ConflictingPackages, DownloadsRefused, MlconvError
from mlconv.messages.table import Message, Scene


def _no_network(_match: re.Match[str], scene: Scene) -> MlconvError:
    return DownloadsRefused(
        f"{scene.ref} wants to download something, and cannot",
        fix="make the module without it, as in pretrained=False, and give its file with --weights; "
        "or fetch it once outside mlconv, into the cache that the code looks in",
    )  # fmt: skip


def _torchvision(_match: re.Match[str], scene: Scene) -> MlconvError:
    return ConflictingPackages(
        f"{scene.ref} imports torchvision, and the one that is installed was not built for the installed torch",
        fix="pip install --force-reinstall torch torchvision, both from one index",
    )  # fmt: skip


PYTHON: tuple[Message, ...] = (
    Message(r"operator torchvision::\w+ does not exist", _torchvision),
    Message(
        r"urlopen error|Name or service not known|[Nn]ame resolution|Max retries exceeded|Network is unreachable"
        r"|offline mode is enabled|[Oo]utgoing traffic has been disabled|Cannot find an appropriate cached snapshot"
        r"|cannot find the requested files in the (local|disk) cache|couldn't connect to 'https?://",
        _no_network,
    ),
)

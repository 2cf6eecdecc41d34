"""Folders whose files register themselves: a new one is found without a line elsewhere."""

import importlib
import pkgutil
from collections.abc import Iterable


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, for what it registers."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")

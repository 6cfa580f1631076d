"""An entry of the registry: the name of a format and the module that reads it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from choline_data.errors import MissingDependencyError, SourceFormatError, one_line

PLUGIN_GROUP = "choline_data.adapters"


@dataclass(frozen=True)
class RegisteredFormat:
    """An entry of the registry. `extra` is the package extra to install if the module's library is missing.

    With `by_table`, the format gets only the files for which the table of known formats names this format as `reader`. `package`
    is the name of the installed package that adds the format; it is empty for our own formats.
    """

    name: str
    module: str
    layout: bool = False
    extra: str = ""
    by_table: bool = False
    package: str = ""

    def load(self) -> Any:
        """Imports the module. Raises MissingDependencyError if its library is not installed.

        Raises SourceFormatError if the module of another package cannot be imported.
        """
        if self.package:
            return self._load_plugin()
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("choline_data"):
                raise
            raise MissingDependencyError(self.extra or "all", f"Reading {self.name}") from error

    def _load_plugin(self) -> Any:
        try:
            return EntryPoint(self.name, self.module, PLUGIN_GROUP).load()
        except (Exception, SystemExit) as error:
            raise SourceFormatError(
                f"The adapter {self.name!r} of the package {self.package} cannot be imported"
                f" ({type(error).__name__}: {one_line(error, 200)}).",
                remedy=f"Update or uninstall {self.package}.",
            ) from error

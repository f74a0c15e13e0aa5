"""Let every tox environment use one folder, so that torch is installed once.

tox remembers which environment made a folder and makes it anew for the next one, even where both want the same
packages. The `shared` runner leaves the name out of that memory; what is installed is still compared as always.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class SharedInfo(Info):
    """What tox remembers of a folder, whichever environment made it."""

    @contextmanager
    def compare(
        self, value: Any, section: str, sub_section: str | None = None
    ) -> Generator[tuple[bool, Any | None], None, None]:
        """Compare as `Info` does, without the name of the environment."""
        if section == "ToxEnv":
            value = {key: item for key, item in value.items() if key != "name"}
        with super().compare(value, section, sub_section) as outcome:
            yield outcome


class SharedRunner(VirtualEnvRunner):
    """A virtual environment that several tox environments use in turn."""

    @staticmethod
    def id() -> str:
        """Return the name to give as `runner`."""
        return "shared"

    @property
    def cache(self) -> Info:
        """Return the memory of the folder."""
        return SharedInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Make the runner known to tox."""
    register.add_run_env(SharedRunner)

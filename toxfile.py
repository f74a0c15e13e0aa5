# SPDX-License-Identifier: Apache-2.0
"""Let every tox environment use one folder, so that torch is installed once, and make the farm's from the zoo.

tox remembers which environment made a folder and makes it anew for the next one, even where both want the same
packages. The `shared` runner leaves the name out of that memory; what is installed is still compared as always.

The farm's environments are not listed by hand: a family that is in the zoo has `farm-FAMILY`,
`farm-FAMILY-NUMERICS` and `farm-FAMILY-NUMERICS-MODE`. This file is loaded where the project is not installed, so it
reads names of files and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from tox.config.loader.memory import MemoryLoader
from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State
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


FAMILIES = Path(__file__).parent / "model_zoo" / "families"
NUMERICS = ("f32", "bf16")
MODES = ("prefill", "token", "chunks", "ragged")


def farm_environments() -> Iterator[tuple[str, str]]:
    """Yield the name of each environment of the farm with the command that it runs."""
    for path in sorted(FAMILIES.glob("*.sohu")):
        name, command = f"farm-{path.stem}", f"python -m farm run --families {path.stem}"
        yield name, command
        for numerics in NUMERICS:
            yield f"{name}-{numerics}", f"{command} --numerics {numerics}"
        for numerics, mode in product(NUMERICS, MODES):
            factors = f"--numerics {numerics} --modes {mode}"
            yield f"{name}-{numerics}-{mode}", f"{command} {factors}"


@impl
def tox_extend_envs() -> tuple[str, ...]:
    """Name the farm's environments."""
    return tuple(name for name, _ in farm_environments())


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Give each of the farm's environments its command; all else it has from `testenv`."""
    del core_conf
    for name, command in farm_environments():
        what = command.removeprefix("python -m farm run ")
        loader = MemoryLoader(commands=[command], commands_pre=[], description=f"the farm: {what}")
        state.conf.memory_seed_loaders[name].append(loader)

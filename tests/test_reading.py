# SPDX-License-Identifier: Apache-2.0
"""One way to read: files of anyone are opened by `dsl/regular_file.py` alone; each exception has its reason.

What `farm` and `benchmarks` read is their own.
"""

from __future__ import annotations

import ast

from tests.test_architecture import Module, called, imports, modules

FILES = "porting/files/files.py"
READER = "dsl/regular_file.py"
PACKAGES = frozenset({"dsl", "device_model", "porting", "sohu"})
METHODS = frozenset(
    {
        "read_text",
        "read_bytes",
        "fromfile",
        "genfromtxt",
        "loadtxt",
        "safe_open",
        "load_file",
        "from_file",
    }
)
OF_MODULES = {
    "np": {"load", "open_memmap"}, "numpy": {"load"}, "os": {"open"}, "io": {"open"}, "json": {"load"},
    "tomllib": {"load"}, "torch": {"load"}, "mmap": {"mmap"}, "codecs": {"open"}, "tarfile": {"open"},
}  # fmt: skip
STREAMED = "a stream that the reader opened, or bytes that it read"
ALLOWED = {
    ("dsl/own_folder.py", "os.open"): "the reader of what this user alone can write, in a folder that stays open",
    ("device_model/machine/native.py", "os.open"): "a lock, made in such a folder and only locked",
    ("device_model/machine/elf.py", "mmap.mmap"): "memory for code, no file",
    ("device_model/machine/processor.py", "read_text"): "/proc/cpuinfo, the system's",
    ("device_model/chips/chip.py", "read_text"): "a description of ours, as the package gives it",
    ("device_model/cost/calibration.py", "read_text"): "a calibration of ours, as the package gives it",
    ("device_model/kernels/dispatch.py", "read_bytes"): "our sources, as the package gives them",
    ("sohu/nodes/runners.py", "read_bytes"): "our sources, as the package gives them",
    ("porting/verdict/kept.py", "read_text"): "/proc/cpuinfo, the system's",
    ("porting/verdict/kept.py", "np.load"): STREAMED,
    ("porting/diff/reproduction.py", "np.load"): STREAMED,
    ("porting/checkpoint/tensors.py", "mmap.mmap"): STREAMED,
    ("porting/checkpoint/gguf_header.py", "mmap.mmap"): STREAMED,
    ("porting/origin/conversions.py", "os.open"): "synchronises what this process wrote",
    ("porting/origin/gguf_weights.py", "open wb"): "writes into a folder of this process",
    ("porting/origin/lora_merge.py", "open wb"): "writes into a folder of this process",
    ("porting/files/atomic.py", "open wb"): "writes into a folder of this process",
    ("porting/files/atomic.py", "os.open"): "synchronises a folder that this process wrote into",
    ("porting/original/loading.py", "safe_open"): "the judge reads what `find_file` looked at, as transformers does",
    ("porting/original/adapted.py", "safe_open"): "the judge reads what `find_file` looked at, as PEFT does",
    ("sohu/commands/beginning.py", "open x"): "writes a first text, a new file",
    ("sohu/terminal/console.py", "os.open"): "the device that swallows what nobody reads",
    ("sohu/terminal/faults.py", "os.open"): "writes the report of a fault, a new file",
}  # fmt: skip


def opened(module: Module, node: ast.Call) -> str:
    """Return how a call opens a file, nothing where it does not, or where a reader of ours does."""
    name, is_method = called(node)
    if name == "open" and not is_method:
        return "open"
    owner = getattr(node.func, "value", None)
    if isinstance(owner, ast.Name) and name in OF_MODULES.get(owner.id, ()):
        return f"{owner.id}.{name}"
    if name == "open" and node.args and isinstance(node.args[0], ast.Constant):
        return f"open {node.args[0].value}"
    if name == "open" and not node.args:
        # A `ModelFile`, which was looked at; a `Path` would need a mode.
        return (
            ""
            if any(i == "porting.files.files" for _, i in imports(module.tree))
            or module.name == FILES
            else "open"
        )
    if name in METHODS and "resources.files" not in ast.unparse(node.func):
        return name
    return ""


def calls(module: Module) -> list[tuple[str, str]]:
    found = [
        (opened(module, node), module.at(node))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
    ]
    return [(how, place) for how, place in found if how]


def read(text: str) -> list[str]:
    return [how for how, _ in calls(Module("porting/x.py", text, ast.parse(text)))]


def test_only_the_reader_opens_files() -> None:
    assert [
        f"{place}: {how}"
        for module in modules()
        if module.package in PACKAGES and module.name != READER
        for how, place in calls(module)
        if (module.name, how) not in ALLOWED
    ] == []


def test_no_exception_is_left_over() -> None:
    used = {(module.name, how) for module in modules() for how, _ in calls(module)}
    assert sorted(ALLOWED.keys() - used) == []


def test_openings_are_seen() -> None:
    assert read("open('x')\npath.read_text()\nnp.load(p)\npath.open('rb')\np.open()") == [
        "open", "read_text", "np.load", "open rb", "open",
    ]  # fmt: skip
    assert read("resources.files('x').joinpath('y').read_text()\nCheckpoint.open(folder)") == []

# SPDX-License-Identifier: Apache-2.0
"""The map of the house: rooms in order, limits, and what may be where. `test_architecture` holds the house to it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
# The rooms of each package in order: a room imports only those that stand before it. "." are the package's own modules.
STAIRS = {
    "dsl": (".", "ops", "text", "linking", "inference", "mesh", "counting"),
    "device_model": (
        "chips",
        "numbers",
        "machine",
        "program",
        "weights",
        "kernels",
        "sampling",
        "engine",
        "mesh",
        "collectives",
        "memory",
        "cost",
        "timeline",
        ".",
    ),
    "porting": (
        "files",
        "pages",
        "config",
        "report",
        "text",
        "checkpoint",
        "original",
        "origin",
        "planning",
        "verdict",
        ".",
        "diff",
    ),
    "sohu": (
        "terminal",
        "performance",
        "api",
        "nodes",
        "agents",
        "language_server",
        "commands",
        ".",
    ),
    "farm": ("classes", "oracles", "matrix", "mutants", "."),
    "benchmarks": (".",),
    "editors": (".",),
    "handbook": ("sources", "reference", "."),
    "model_zoo": (".",),
}
PACKAGES = tuple(STAIRS)
# dsl ← device_model ← porting ← sohu ← farm, benchmarks; editors know the language alone; nothing imports tests.
_PORTING = {"dsl", "device_model", "model_zoo", "porting"}
ALLOWED_PROJECT_IMPORTS: dict[str, set[str]] = {
    "dsl": {"dsl"},
    "device_model": {"dsl", "device_model"},
    "porting": _PORTING,
    "sohu": {*_PORTING, "sohu"},
    "farm": {*_PORTING, "sohu", "farm"},
    "benchmarks": {*_PORTING, "sohu", "benchmarks"},
    "editors": {"dsl", "editors"},
    "handbook": {*_PORTING, "sohu", "handbook"},
    "model_zoo": set(),
}
MAX_LINES = 500
MAX_FUNCTION = 60
# Functions that do not fit on a screen yet; each may only become shorter.
LONG_FUNCTIONS = {
    "device_model/kernels/attention.py attention": 71,
    "device_model/machine/lanes.py dots": 69,
}
MAX_PARAMETERS = 12
# The public face has every option of its command.
WIDE_FUNCTIONS = {"sohu/api/port.py port": 15}
# Compiled code takes positions only; its widest function may only become narrower.
MAX_COMPILED_PARAMETERS = 35
# Two wings may each have their own `Plan`; a third meaning of a word is one too many.
MAX_MEANINGS = 2
# A participle is not a noun.
NAMED_BY_MEANING = ("benchmarks", "farm", "porting")
FOUND_LEFT = frozenset[str]()
COMPILERS = frozenset({"compiled", "intrinsic", "njit"})
REFERENCE = "porting/original/reference.py"
EAGER = "benchmarks/eager.py"

# Packages with a single home, or none in some folders: (package, where it must not be, the one place it may be).
BOUNDARIES = (
    ("numpy", "dsl", ()),
    ("ml_dtypes", "dsl", ()),
    ("numba", "dsl", ()),
    ("safetensors", "dsl", ()),
    ("huggingface_hub", "dsl", ()),
    ("huggingface_hub", "device_model", ()),
    ("tokenizers", "dsl", ()),
    ("tokenizers", "device_model", ()),
    ("lark", "", ("dsl/text/parser.py", "dsl/text/parse_tables.py", "dsl/text/tree_builder.py")),
    ("sympy", "", ("dsl/formula_text.py",)),
    ("torch", "", (REFERENCE, EAGER)),
    ("transformers", "", (REFERENCE, EAGER)),
    (
        "pygls",
        "",
        tuple(f"sohu/language_server/{name}.py" for name in ("protocol", "server", "session")),
    ),
    (
        "lsprotocol",
        "",
        tuple(f"sohu/language_server/{name}.py" for name in ("answers", "server", "session")),
    ),
    ("ray", "", ("sohu/nodes/on_ray.py",)),
    ("onnxruntime", "", ("benchmarks/onnx_runtime.py",)),
    ("optimum", "", ("benchmarks/onnx_runtime.py",)),
    ("llama_cpp", "", ("benchmarks/llama_cpp.py",)),
    ("sphinx", "", ("handbook/site.py",)),
    ("pickle", "", ()),
    ("cloudpickle", "", ()),
    ("dill", "", ()),
    ("marshal", "", ()),
    ("shelve", "", ()),
)
BANNED_CALLS = frozenset(
    {"simplify", "subs", "sympify", "parse_expr", "eval", "exec", "compile", "__import__"}
)
BANNED_METHODS = frozenset({"simplify", "subs", "sympify", "equals", "parse_expr"})
# Where a library may raise anything about a hostile file; the handler must end by raising a diagnostic.
BROAD_CATCHES = {
    "porting/original/own_reference.py": "a reference of the user's own may raise anything",
    REFERENCE: "transformers raises whatever its parsers raise",
}
# Where whatever is raised is the answer.
ANSWERED = {
    "farm/classes/lists.py": "a config class refuses what is tried on it as it likes",
    "farm/classes/table.py": "a config class refuses what is tried on it as it likes",
    "porting/text/text_child.py": "a panic in tokenizers is a BaseException, and all else is about the file too",
}
PRINTING = {
    "sohu/terminal/console.py",
    "sohu/commands/parsing.py",  # the version
    "porting/diff/reproduction.py",  # a script that a person runs with plain Python
}
LAST_RESORT = "sohu/commands/cli.py"  # a fault becomes a line and a status there
HEAVY = frozenset({"torch", "transformers", "numba", "llvmlite"})

# SPDX-License-Identifier: Apache-2.0
"""The 86 inputs that once hung, crashed, filled memory or printed raw, and what each is answered with now.

They are built here, not kept: what made them hostile is a line. The valid case that they break is `generator.valid`'s.
`ends` is the code of the refusal, or the exit status of a right answer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.hostile.arguments import PLAN, PREDICT, RUN
from tests.hostile.generator import CONFIG, Input, tokenizer
from tests.hostile.sample_files import bomb, entries, fused, gguf, nanoseconds, wide
from tests.hostile.things import ZERO, Content, CopyOf, Device, LinkTo, Pipe

PARQUET = tuple(argument.replace(".csv", ".parquet") for argument in PREDICT)
PROFILE = ("profile", "{case}/p", "--device", "{case}/e.toml")
CHECK = ("check", "{case}/y.sohu")
NINES = "9" * 400
LETTERS = "a" * 40 + " b aa"
TITLE = "\x1b]0;pwn\x07"
LONG = "a" * 5000


@dataclass(frozen=True, slots=True)
class Sample:
    """An input, and how it ends: a code or an exit status; large ones run where all are asked for."""

    name: str
    arguments: tuple[str, ...]
    ends: str
    files: Mapping[str, Content]
    is_large: bool = False

    def input(self) -> Input:
        """Return it as the guard runs it."""
        return Input(self.name, self.files, self.arguments)


def samples(*, large: bool) -> tuple[Sample, ...]:
    """Return all of them, those that take seconds to build where they are asked for."""
    rows = (
        *_configs(),
        *_weights(),
        *_sohu(),
        *_options(),
        *_tables(),
        *_text(),
        *_ports(),
        *_devices(),
    )
    return tuple(row for row in rows if large or not row.is_large)


def config(**keys: object) -> bytes:
    """Return the valid case's config with other keys."""
    return json.dumps(CONFIG | keys).encode()


def _configs() -> Iterator[Sample]:
    keys = {f"k{i}": 1 for i in range(100_000)}
    endings = (("keys", "", 1, "S425"), ("empty", "", None, "0"), ("private", "_", 1, "S425"))
    for name, prefix, value, ending in endings:
        content = config(**{f"{prefix}{key}": value for key in keys})
        files: dict[str, Content] = {"m/config.json": content}
        yield Sample(f"config/raw-100k-{name}", PLAN, ending, files, is_large=True)
    layers = {"m/config.json": config(num_hidden_layers=4096)}
    yield Sample("config/key-layers-4096", PLAN, "S560", layers)
    named = {"m/config.json": config(architectures=["family"])}
    yield Sample("config/key-arch-sohu", PLAN, "S404", named)


def _weights() -> Iterator[Sample]:
    weights = "m/model.safetensors"
    for name, text in (
        (
            "ints",
            b'{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[' + b"1," * 50_000_000 + b"1]}}",
        ),
        ("tensors", b"{" + b",".join(entries(1_600_000)) + b"}"),
    ):
        content = struct.pack("<Q", len(text)) + text
        yield Sample(f"safetensors/header-100MB-{name}", PLAN, "S522", {weights: content}, True)
    yield Sample("safetensors/sparse-fused-phi3", PLAN, "0", fused())
    axes = {"x.gguf": gguf([0, 2**63])}
    yield Sample("gguf/dims-zerohuge", ("port", "{case}/x.gguf", *PLAN[2:]), "S572", axes)


def _family(body: str, above: str = "") -> bytes:
    dims = "dims { B: batch, S: seq, C: context }"
    return f'sohu 1.0\n{above}family f for "X" {{\n{dims}\n{body}\n}}\n'.encode()


def _sohu() -> Iterator[Sample]:
    blocks = [
        f"block b{i}(x: f32[B, S]) -> f32[B, S] {{\n  y = b{i + 1}(x)\n  return y\n}}\n"
        for i in range(2000)
    ]
    blocks.append("block b2000(x: f32[B, S]) -> f32[B, S] {\n  return x\n}\n")
    chain = _family("  input x: f32[B, S]\n  y = b0(x)\n  output o: f32[B, S] = y", "".join(blocks))
    ifs = _family(
        "config {\n"
        + "".join(f"c{i} = k{i} ?? false\n" for i in range(2000))
        + "}\n  input x: f32[B, S]\n"
        + "".join(f"  if c{i} {{ x = x + x }}\n" for i in range(2000))
        + "  output o: f32[B, S] = x"
    )
    ones = ",".join(["1"] * 50_000)
    one_each = f"  input x: f32[B, S]\n  require [{ones}] == [1]\n  output y: f32[B, S] = x"
    path = "a/" * 3000 + "b.sohu"
    rows: tuple[tuple[str, str, Content], ...] = (
        ("raw-plus", "S106", _family("  require " + "+".join(["1"] * 100_000) + " > 0")),
        ("raw-ansi", "S101", f'sohu 1.0\nfamily f for "{TITLE}" {{ zzz }}'.encode()),
        ("raw-ansi-comment", "S101", f'sohu 1.0\nfamily f for "X" {{ zzz # {TITLE}\n }}'.encode()),
        ("num-zeros", "S104", _family("  require " + "0" * 100_000 + "1 > 0")),
        ("expr-list", "S106", _family(one_each)),
        ("block-chain", "S106", chain),
        ("ifs-2000", "S106", ifs),
        ("use-long2", "S227", f'sohu 1.0\nuse "{path}"'.encode()),
        ("file-fifo", "S108", Pipe()),
        ("file-link-zero", "S108", LinkTo("/dev/zero")),
        ("file-node-zero", "S108", Device(ZERO)),
        ("file-loop", "S110", LinkTo("y.sohu")),
    )
    for name, ends, content in rows:
        yield Sample(f"sohu/{name}", CHECK, ends, {"y.sohu": content})


def _options() -> Iterator[Sample]:
    far = "{case}/" + "a/" * 1000 + "o.csv"
    yield Sample("cli/mesh-superscript", ("cost", "{case}/p", "--mesh", "tp=²"), "S306", {})
    yield Sample("cli/mesh-digits", ("cost", "{case}/p", "--mesh", "tp=" + "9" * 5000), "S306", {})
    yield Sample("cli/explain-title", ("explain", TITLE), "S109", {})
    yield Sample("tokens/weights-sup", (*RUN, "--weights", "random:²"), "S533", {})
    yield Sample("table/out-deep", (*PREDICT[:-1], far), "S110", {})
    for command in ("cost", "validate"):
        yield Sample(f"port/cmd-{command}-long", (command, LONG), "S110", {})
    for name, out, files in (
        ("link-loop", "{case}/l", {"l": LinkTo("l")}),
        ("toolong", "{case}/" + "a" * 256, {}),
        ("nul", "{case}/a\0b", {}),
    ):
        yield Sample(f"out/{name}", (*PLAN[:-1], out), "S110", files)
    for name, folder in (
        ("newline", 'm\nfamily evil for "X" { }\n#'),
        ("cr", 'm\rfamily evil for "X" { }'),
    ):
        plan = ("port", "{case}/" + folder, *PLAN[2:])
        yield Sample(f"out/model-name-{name}", plan, "0", {folder: CopyOf("m")})


def _tables() -> Iterator[Sample]:
    title = {"t.csv": f"m,n,{TITLE}\n1,2,3".encode()}
    yield Sample("table/csv-ansi", PREDICT, "S610", title)
    yield Sample("table/csv-file-fifo", PREDICT, "S610", {"t.csv": Pipe()})
    yield Sample("table/file-fifo", PARQUET, "S610", {"t.parquet": Pipe()})
    for name, column in (("ts", "timestamp"), ("dur", "duration")):
        yield Sample(f"table/col-{name}", PARQUET, "S610", {"t.parquet": nanoseconds(column)})
    yield Sample("table/bomb-4GB-text", PARQUET, "S610", {"t.parquet": bomb(20_000, 200_000)})
    yield Sample("table/bomb-2GB-text", PARQUET, "S610", {"t.parquet": bomb(200_000, 10_000)}, True)
    yield Sample("table/bomb-19M-rows-30-cols", PARQUET, "S610", {"t.parquet": wide()}, True)


TEMPLATES = (
    ("format", "{{ '{0.__class__}'.format(1) }}", "S547"),
    ("formatmap", "{{ '{a.__class__}'.format_map({'a':1}) }}", "S547"),
    ("strftime", "{{ strftime_now('%999999999Y') }}", "S547"),
    ("surrogate", "{{ '\\ud800' }}", "S542"),
    ("empty", "", "S547"),
    ("blank", " ", "S547"),
    ("namespace", "{% set ns = namespace(a=1) %}{% set ns.__class__ = 1 %}", "S542"),
    ("call", "{{ messages.__class__ }}", "S547"),
    ("random", "{{ range(0)|random }}", "S547"),
    ("stdout", "{{ self._TemplateReference__context }}", "S547"),
    ("list", [{"name": "default", "template": 5}, 7, {"name": []}], "0"),
)
TENFOLD = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
SPECIAL = [{"SpecialToken": {"id": "x", "type_id": 0}}]
# The whole of a map of characters is a length and that many bytes of a trie.
CHARACTERS = (
    "CAAAAP////////////////////////////////////////////////////////////////////////////////////8="
)
TOKENIZERS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("bomb-7", {"normalizer": {"type": "Sequence", "normalizers": [TENFOLD] * 7}}, "S547"),
    ("bomb-9", {"normalizer": {"type": "Sequence", "normalizers": [TENFOLD] * 9}}, "S547"),
    (
        "regex",
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a|a)*$"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        "S547",
    ),
    (
        "regex2",
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a+)+b"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        "S547",
    ),
    (
        "precompiled2",
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": CHARACTERS}},
        "S541",
    ),
    (
        "bpe-cycle",
        {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}},
        "S541",
    ),
    ("bpe-empty", {"model": {"type": "BPE", "vocab": {}, "merges": []}}, "S547"),
    (
        "wordpiece",
        {
            "model": {
                "type": "WordPiece",
                "vocab": {},
                "unk_token": "x",
                "continuing_subword_prefix": "",
                "max_input_chars_per_word": 0,
            }
        },
        "S547",
    ),
    (
        "post",
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": SPECIAL,
                "pair": [],
                "special_tokens": {},
            }
        },
        "S547",
    ),
    (
        "vocab-100k",
        {
            "model": {
                "type": "WordLevel",
                "vocab": {f"x{i}": i for i in range(100_000)},
                "unk_token": "[UNK]",
            }
        },
        "S547",
    ),
)


def _text() -> Iterator[Sample]:
    def generate(prompt: str) -> tuple[str, ...]:
        return ("generate", "{case}/p", "--max-new-tokens", "3", "--prompt", prompt)

    yield Sample("text/p-empty", generate(""), "S547", {})
    yield Sample("text/p-surrogate", generate("a \udcff b"), "S110", {})
    for name, template, ends in TEMPLATES:
        settings = json.dumps({"chat_template": template}).encode()
        files: dict[str, Content] = {"m/tokenizer_config.json": settings}
        yield Sample(f"text/t-{name}", generate("a b"), ends, files)
    for name, change, ends in TOKENIZERS:
        files = {"m/tokenizer.json": json.dumps(tokenizer() | change).encode()}
        yield Sample(f"text/k-{name}", generate(LETTERS), ends, files)


def _ports() -> Iterator[Sample]:
    report, text = "p/report.json", "p/model.sohu"
    rows: tuple[tuple[str, tuple[str, ...], str, str, Content], ...] = (
        ("report-fifo", RUN, report, "S531", Pipe()),
        ("report-zero", RUN, report, "S512", LinkTo("/dev/zero")),
        ("text-fifo", RUN, text, "S108", Pipe()),
        ("cost-zero", ("cost", "{case}/p"), text, "S512", LinkTo("/dev/zero")),
        ("cost-fifo", ("cost", "{case}/p"), text, "S108", Pipe()),
        ("fit-fifo", ("fit", "{case}/p", "--device", "h100"), text, "S108", Pipe()),
    )
    for name, arguments, file, ends, content in rows:
        yield Sample(f"port/{name}", arguments, ends, {file: content})
    shape = f"{{'descr': '<i8', 'fortran_order': False, 'shape': (1, {NINES})}}".encode()
    tokens = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(shape)) + shape + bytes(24)
    yield Sample("tokens/shape-big", RUN, "S532", {"t.npy": tokens})


def _devices() -> Iterator[Sample]:
    for key in ("hbm_bw", "hbm_bytes", "bf16_flops", "units", "clock_hz", "domain"):
        value = f'{{ value = {NINES}, source = "x", confidence = "high" }}'
        yield Sample(
            f"device/{key}-bigint", PROFILE, "S608", {"e.toml": f"{key} = {value}\n".encode()}
        )
    deep = "[" * 5000
    rows: tuple[tuple[str, Content], ...] = (
        ("raw-deep", b"x = " + b"[" * 100_000),
        ("raw-deep-closed", f"x = {deep}{']' * 5000}".encode()),
        ("raw-deep-dots", ".".join(["a"] * 100_000).encode() + b" = 1"),
        ("raw-deep-table", b"[" + ".".join(["a"] * 100_000).encode() + b"]"),
        ("raw-int-5000", b"x = " + b"9" * 5000),
        ("raw-keys", "".join(f"k{i} = 1\n" for i in range(60_000)).encode()),
        ("raw-fifo", Pipe()),
        ("raw-zero", LinkTo("/dev/zero")),
        ("raw-node", Device(ZERO)),
    )
    for name, content in rows:
        yield Sample(f"device/{name}", PROFILE, "S608", {"e.toml": content})

# SPDX-License-Identifier: Apache-2.0
"""Hostile inputs of a seed: one small valid case, in which one file or one option is broken.

Every kind of file that is read has a row in `KINDS`. Nothing here knows what is right: `guard` says what is wrong.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.checkpoints import gguf_bytes, gguf_string, safetensors_bytes
from tests.hostile.arguments import ADAPTED, GENERATE, PLAN, PREDICT, RUN
from tests.hostile.odd_files import OUTSIDE, odd
from tests.hostile.things import Content

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
    "tie_word_embeddings": False, "torch_dtype": "float32", "attention_bias": False, "mlp_bias": False,
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "beta_fast": 32.0},
}  # fmt: skip
LAYER = {
    "input_layernorm": [16], "post_attention_layernorm": [16], "self_attn.q_proj": [16, 16],
    "self_attn.k_proj": [8, 16], "self_attn.v_proj": [8, 16], "self_attn.o_proj": [16, 16],
    "mlp.gate_proj": [32, 16], "mlp.up_proj": [32, 16], "mlp.down_proj": [16, 32],
}  # fmt: skip
ADAPTER = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none",
    "task_type": "CAUSAL_LM", "base_model_name_or_path": "m", "use_rslora": False, "use_dora": False,
}  # fmt: skip
TEXT = """sohu 1.0

family small for "SmallForCausalLM" {
  let D = dim(config.hidden_size)
}
"""
NUMBERS = (
    0, -1, 1, 2, 3, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**32, 2**62, 2**63, 2**64, -(2**63), 10**40, 10**400,
)  # fmt: skip
WORDS = (
    "", " ", "a" * 5000, "\x1b]0;pwn\x07", "\x1b[31mred", "\u202eright", "\x9b31m", "é", "²", "٣", "\udcff", "a\x00b",
    "a\nb", "../../etc/passwd", "/dev/zero", "/etc/passwd", "~root", "{{ x }}", "%s%n", "${HOME}", "nan", "inf",
    "__import__('os')", "c" * 300, "*",
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [[]], [None], {"": None}, [0] * 300, {"a": {"b": {"c": 1}}})
LIMIT = 4000
DEEP = 3000


@dataclass(frozen=True, slots=True)
class Input:
    """One run: files to put over the valid case, and the arguments, with `{case}` for its folder."""

    name: str
    files: Mapping[str, Content]
    arguments: tuple[str, ...]


Kind = Callable[[random.Random, Path], Input]


def valid(folder: Path) -> None:
    """Write a model, tokens, a text, a device and a table, each of which is read without a complaint."""
    model = folder / "m"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (model / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    (model / "model.safetensors").write_bytes(safetensors_bytes(*_tensors()))
    adapter = folder / "a"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_bytes(*_low_rank()))
    np.save(folder / "t.npy", np.array([[1, 2, 3]]))
    (folder / "x.sohu").write_text(TEXT)
    (folder / "user.sohu").write_text('sohu 1.0\n\nuse "x.sohu"\n')
    chips = Path(__file__).parents[2] / "device_model" / "chips" / "descriptions"
    (folder / "d.toml").write_bytes((chips / "h100_sxm.toml").read_bytes())
    (folder / "t.csv").write_text("m,n,k,latency_ms\n64,64,64,0.5\n128,64,64,0.25\n")


def planned(folder: Path) -> None:
    """Write the valid case and a port of its model, which names the model beside it, wherever the case is copied."""
    from sohu.commands.cli import main

    valid(folder)
    (folder.parent / OUTSIDE).write_text("somebody else's")
    if main(["port", str(folder / "m"), "--plan", "--out", str(folder / "p")]):
        raise ValueError("the valid case is refused")
    report = folder / "p" / "report.json"
    data = json.loads(report.read_bytes())
    data["model"]["source"] = "m"
    report.write_text(json.dumps(data))


def _tensors() -> tuple[dict[str, object], bytes]:
    shapes = {"model.embed_tokens": [64, 16], "model.norm": [16], "lm_head": [64, 16]}
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(2) for name, shape in LAYER.items()}
    return _filled({f"{name}.weight": shape for name, shape in shapes.items()})


def _low_rank() -> tuple[dict[str, object], bytes]:
    at = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    parts = {"A": [4, 16], "B": [16, 4]}
    return _filled({at.format(i, part): shape for i in range(2) for part, shape in parts.items()})


def _filled(shapes: Mapping[str, list[int]]) -> tuple[dict[str, object], bytes]:
    header: dict[str, object] = {}
    start = 0
    for name, shape in shapes.items():
        end = start + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        start = end
    values = np.random.default_rng(0).normal(0, 0.1, start // 4)
    return header, values.astype("<f4").tobytes()


def tokenizer() -> dict[str, object]:
    """Return a tokenizer of 64 words that can be read."""
    words = {f"w{i}": i for i in range(64)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model,
    }  # fmt: skip


def _value(chance: random.Random) -> object:
    # A copy: what is put into an input may be changed there.
    return deepcopy(chance.choice(chance.choice((NUMBERS, WORDS, OTHERS))))


def _places(value: object) -> Iterator[tuple[object, object]]:
    """Yield every (container, key) in a value."""
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def broken_data(chance: random.Random, value: object) -> bytes:
    """Return JSON in which one value or key was exchanged, or whose bytes were."""
    data = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place, key = chance.choice(list(_places(data)))
        way = chance.randrange(4)
        if way == 0:
            del place[key]  # type: ignore[attr-defined]
        elif way == 1 and isinstance(place, dict):
            place[chance.choice(WORDS)] = _value(chance)
        else:
            place[key] = _value(chance)  # type: ignore[index]
        if not data:
            break
    text = json.dumps(data).encode("utf-8", "surrogatepass")
    return broken_bytes(chance, text) if chance.random() < 0.25 else text


def broken_bytes(chance: random.Random, content: bytes) -> bytes:
    """Return bytes that are cut, changed, repeated, nested or put together anew."""
    at = chance.randrange(max(len(content), 1))
    end = min(len(content), at + chance.randrange(1, 40))
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: content[:at],
        lambda: content[:at] + bytes(chance.randrange(256) for _ in range(4)) + content[at + 4 :],
        lambda: content[:at] + content[end:],
        lambda: content[:at] + content[at:end] * 50 + content[end:],
        lambda: content[:at] + chance.choice((b"[", b"{", b"(", b"-", b"1")) * DEEP + content[at:],
        lambda: content[:at] + _word(chance) + content[at:],
        lambda: content[:at] + str(chance.choice(NUMBERS)).encode() + content[end:],
        lambda: b"",
        lambda: b"\xef\xbb\xbf" + content,
        lambda: content.replace(b"\n", b"\r"),
        lambda: content.decode("utf-8", "replace").encode("utf-16"),
    )
    return chance.choice(ways)()


def _word(chance: random.Random) -> bytes:
    return chance.choice(WORDS).encode("utf-8", "surrogatepass")


def _argument(chance: random.Random) -> str:
    value = _value(chance)
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\x00", "\\0")[:LIMIT] if chance.random() < 0.5 else text[:LIMIT]


def _config(chance: random.Random, case: Path) -> Input:
    return Input("config", {"m/config.json": broken_data(chance, CONFIG)}, PLAN)


def _safetensors(chance: random.Random, case: Path) -> Input:
    header, data = _tensors()
    text = broken_data(chance, header)
    length = len(text) if chance.random() < 0.8 else chance.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    content = struct.pack("<Q", length) + text + data[: chance.choice((len(data), 100))]
    return Input("safetensors", {"m/model.safetensors": content}, PLAN)


def _index(chance: random.Random, case: Path) -> Input:
    # In a folder without model.safetensors, which would be read instead.
    names = dict.fromkeys(_tensors()[0], "part.safetensors")
    files: dict[str, Content] = {
        "i/config.json": json.dumps(CONFIG).encode(),
        "i/part.safetensors": safetensors_bytes(*_tensors()),
        "i/model.safetensors.index.json": broken_data(
            chance, {"metadata": {"total_size": 10}, "weight_map": names}
        ),
    }
    return Input("index", files, ("port", "{case}/i", *PLAN[2:]))


def _gguf(chance: random.Random, case: Path) -> Input:
    arch = gguf_string(chance.choice(("nothing", "", chance.choice(WORDS[:8]))))
    content = gguf_bytes([("general.architecture", 8, arch)], [("a", [4], 0, 0)])
    for _ in range(chance.randrange(1, 3)):
        content = broken_bytes(chance, content)
    return Input("gguf", {"x.gguf": content}, ("port", "{case}/x.gguf", *PLAN[2:]))


def _sohu(chance: random.Random, case: Path) -> Input:
    texts = ("x.sohu", "p/model.sohu")
    text = (case / chance.choice(texts)).read_bytes()
    command = chance.choice(("check", "check", "fmt", "cost"))
    return Input("sohu", {"y.sohu": broken_bytes(chance, text)}, (command, "{case}/y.sohu"))


def _device(chance: random.Random, case: Path) -> Input:
    text = broken_bytes(chance, (case / "d.toml").read_bytes())
    return Input("device", {"e.toml": text}, ("fit", "{case}/p", "--device", "{case}/e.toml"))


def _table(chance: random.Random, case: Path) -> Input:
    content = broken_bytes(chance, (case / "t.csv").read_bytes())
    return Input("table", {"t.csv": content}, PREDICT)


def _tokens(chance: random.Random, case: Path) -> Input:
    content = (case / "t.npy").read_bytes()
    return Input("tokens", {"t.npy": broken_bytes(chance, content)}, RUN)


def _text(chance: random.Random, case: Path) -> Input:
    files = {"m/tokenizer.json": broken_data(chance, tokenizer())}
    if chance.random() < 0.5:
        template = chance.choice(
            (*WORDS, "{% for i in range(10**9) %}x{% endfor %}", "{{ 'a' * 10**12 }}")
        )
        files = {"m/tokenizer_config.json": json.dumps({"chat_template": template}).encode()}  # fmt: skip
    prompt = chance.choice(("w1 w2", _argument(chance)))
    return Input("text", files, (*GENERATE[:3], prompt, *GENERATE[4:]))


def _port(chance: random.Random, case: Path) -> Input:
    if chance.random() < 0.5:
        report = json.loads((case / "p" / "report.json").read_bytes())
        return Input("port", {"p/report.json": broken_data(chance, report)}, RUN)
    text = (case / "p" / "model.sohu").read_bytes()
    return Input("port", {"p/model.sohu": broken_bytes(chance, text)}, RUN)


def _adapter(chance: random.Random, case: Path) -> Input:
    name = chance.choice(("adapter_config.json", "adapter_model.safetensors"))
    content = (case / "a" / name).read_bytes()
    broken = broken_bytes(chance, content)
    if name.endswith(".json"):
        broken = broken_data(chance, json.loads(content))
    return Input("adapter", {f"a/{name}": broken}, ADAPTED)


def _odd(chance: random.Random, case: Path) -> Input:
    files, arguments = odd(chance, case)
    return Input("odd", files, arguments)


OPTIONS = (
    ("cost", "{case}/p", "--mesh", "tp={}"), ("cost", "{case}/p", "--mesh", "{}"),
    ("cost", "{case}/p", "--batch", "{}"),
    ("fit", "{case}/p", "--device", "{}"), ("cost", "{case}/p", "--context", "{}"), ("explain", "{}"),
    ("sweep", "{case}/p", "--device", "h100", "--vary", "{}"), ("cost", "{case}/p", "--numerics", "{}"),
    ("sweep", "{case}/p", "--device", "h100", "--vary", "batch={}"), ("check", "{}"), ("cost", "{}"),
    ("run", "{case}/p", "--tokens", "{case}/t.npy", "--logits", "{case}/l.npy", "--weights", "{}"),
    ("run", "{case}/p", "--tokens", "{}", "--logits", "{case}/l.npy"), ("validate", "{}"),
    ("profile", "{case}/p", "--device", "h100", "--explain", "{}"), ("diff", "{}"),
)  # fmt: skip


def _options(chance: random.Random, case: Path) -> Input:
    value = _argument(chance)
    arguments = tuple(part.replace("{}", value) for part in chance.choice(OPTIONS))
    return Input("options", {}, arguments)


def _out(chance: random.Random, case: Path) -> Input:
    name = _argument(chance).replace("..", "").replace("~", "").lstrip("/")
    return Input("out", {}, (*PLAN[:-1], "{case}/o/" + name))


KINDS: tuple[Kind, ...] = (
    _config, _safetensors, _index, _gguf, _sohu, _device, _table, _tokens, _port, _options, _out, _config, _sohu, _text,
    _odd, _adapter, _odd,
)  # fmt: skip


def inputs(seed: int, count: int, case: Path) -> Iterator[Input]:
    """Yield inputs, all kinds in turn; each depends on the seed and its number alone."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")  # noqa: S311 - repeatable, nobody's secret
        yield KINDS[number % len(KINDS)](chance, case)

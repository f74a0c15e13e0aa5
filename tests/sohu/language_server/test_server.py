# SPDX-License-Identifier: Apache-2.0
"""`sohu lsp` driven by a client of the protocol, as an editor drives it, on a family of the zoo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from porting.planning.library import ZOO
from tests.sohu.language_server.editing import LIMIT_S, ROOT, SERVE, Editor, answered, edited

LLAMA = ZOO / "families" / "llama.sohu"
WHOLE = lsp.Range(lsp.Position(0, 0), lsp.Position(10**6, 0))


def codes(diagnostics: list[lsp.Diagnostic]) -> list[object]:
    return [d.code for d in diagnostics]


def opened(editor: Editor, path: Path = LLAMA, text: str | None = None) -> None:
    editor.open(path.as_uri(), path.read_text(encoding="utf-8") if text is None else text)


async def _hovers(editor: Editor) -> None:
    """Five actions: an operation's rules, a block's header, a name's shape, a key's default, a word."""
    said = await editor.hover("x = x + gqa_att")
    assert "here: `bf16[B, S, D]`" in said
    assert "block gqa_attention(\n  at: string," in said
    assert "Grouped-query self-attention" in said
    assert "**h** – value: `bf16[B, S, D]`" in await editor.hover('self_attn", h')
    assert "`11008` where a llama config has none" in await editor.hover("F              = inter")
    assert "`repeat i < L @pp carry x { … }`" in await editor.hover("repea")
    assert "part rotary" in await editor.hover("include rota")


async def _definitions(editor: Editor) -> None:
    """Five actions: a block, a parameter, a part, a file, a name of the config."""
    [(file, line)] = await editor.definitions("x = x + gqa_att")
    assert file == "attention.sohu"
    assert _line(ZOO / "blocks" / file, line).startswith("block gqa_attention")
    assert (await editor.definitions("freqs, H"))[0][0] == "attention.sohu"
    assert (await editor.definitions("include rota"))[0][0] == "decoder.sohu"
    assert await editor.definitions('use "blocks/no') == [("norm.sohu", 1)]
    [(file, line)] = await editor.definitions("eps=e")
    assert (file, _line(LLAMA, line).split()[0]) == ("llama.sohu", "eps")


def _line(path: Path, number: int) -> str:
    return path.read_text(encoding="utf-8").splitlines()[number - 1]


async def _completions(editor: Editor) -> None:
    """Five actions: parameters, names, keys, statements, mesh axes and types."""
    call = await editor.labels("act=activation, ")
    assert call[:2] == ["at=", "x="]
    assert "act=" not in call
    assert {"freqs", "eps", "matmul", "rms"} <= set(call)
    assert "rms_norm_eps" in await editor.labels("activation     = ")
    assert (await editor.labels("  mesh { tp }\n\n  "))[0] == "config"
    assert (await editor.labels("output logits: "))[:3] == ["dtype", "f32", "bf16"]
    assert (await editor.labels("include "))[:2] == ["decoder", "grouped_heads"]


async def _whole_texts(editor: Editor) -> None:
    """Five actions: symbols, hints, references, the signature around a place, formatting of what is formatted."""
    client, document = editor.client, editor.document
    told = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
    assert [(s.name, s.detail) for s in told or ()] == [("llama", "family")]
    inner = [s.name for s in (told or ())[0].children or ()]
    assert inner == ["config", "R", "repeat i < L", "x", "logits"]
    hints = await client.text_document_inlay_hint_async(lsp.InlayHintParams(document, WHOLE))
    assert [str(h.label) for h in hints or ()] == [": bf16[B, S, D]"] * 5
    place = editor.position('x = x + gqa_attention(\n      "model.layers.{i}.self_attn", h')
    asked = lsp.ReferenceParams(lsp.ReferenceContext(True), document, place)
    assert len(await client.text_document_references_async(asked) or ()) == 4
    given = lsp.SignatureHelpParams(document, editor.position("act=activation, bias="))
    signature = await client.text_document_signature_help_async(given)
    assert signature is not None
    assert signature.signatures[0].label.startswith("gated_mlp(at: string")
    options = lsp.FormattingOptions(2, True)
    kept = lsp.DocumentFormattingParams(document, options)
    assert not await client.text_document_formatting_async(kept)


def test_twenty_actions_on_a_family() -> None:
    async def script(editor: Editor) -> None:
        opened(editor)
        assert await editor.until(lambda told: True) == []
        for actions in (_hovers, _definitions, _completions, _whole_texts):
            await actions(editor)

    edited(script)


def test_what_is_wrong_is_told_as_one_types_and_repaired_by_its_help() -> None:
    async def script(editor: Editor) -> None:
        opened(editor)
        await editor.until(lambda told: True)
        sound = editor.text
        editor.change(sound.replace("gated_mlp(", "gated_mpl("))
        [told] = await editor.until(bool)
        assert told.code == "S206"
        context = lsp.CodeActionContext([told])
        asked = lsp.CodeActionParams(editor.document, told.range, context)
        [action] = await editor.client.text_document_code_action_async(asked) or ()
        assert action.title == "Replace by `gated_mlp`"
        assert editor.applied(action.edit.document_changes[0].edits) == sound
        # No syntax: told at once, and what is left is asked as before.
        editor.change(sound.replace('rms("model.norm", x, eps=eps)', 'rms("model.norm", x, '))
        await editor.until(lambda told: codes(told) == ["S103"])
        assert "bf16[B, S, D]" in await editor.hover("x = x + gqa_att")
        assert (await editor.labels('rms("model.norm", x, '))[:3] == ["at=", "x=", "eps="]
        editor.change(
            sound.replace("F=F, act", "F=D, act").replace("  mesh { tp", "    mesh  {  tp")
        )
        editor.save()
        await editor.until(lambda told: codes(told) == ["S215"])
        options = lsp.DocumentFormattingParams(editor.document, lsp.FormattingOptions(2, True))
        edits = await editor.client.text_document_formatting_async(options)
        assert editor.applied(list(edits or ())) == sound.replace("F=F, act", "F=D, act")

    edited(script)


def test_names_are_renamed_within_a_text_and_others_keep_theirs() -> None:
    async def script(editor: Editor) -> None:
        opened(editor)

        async def renamed(before: str, new: str) -> str:
            params = lsp.RenameParams(editor.document, editor.position(before), new)
            answer = await editor.client.text_document_rename_async(params)
            assert answer is not None
            return editor.applied(answer.document_changes[0].edits)  # type: ignore[index,union-attr,arg-type]

        expected = editor.text.replace("    eps ", "    small ").replace("eps=eps", "eps=small")
        assert await renamed("    eps", "small") == expected
        for before, new, reason in (
            ("x = x + gqa_att", "y", "known to other texts"),
            ("freqs, H", "J", "it is not renamed from a call"),
            ("mesh { tp", "dp", "mesh's axes by their names"),
            ("    tied", "free", "decoder.sohu has it too"),
            ("    eps", "F", "a name with a capital is a dimension"),
            ("    eps", "activation", "has a meaning already"),
            ("    eps", "repeat", "can be no name"),
        ):
            with pytest.raises(JsonRpcException, match=reason):
                await renamed(before, new)

    edited(script)


@pytest.mark.parametrize(("offered", "units"), [(None, "utf-16"), (["utf-8", "utf-16"], "utf-8")])
def test_places_are_counted_as_the_client_counts(offered: list[str] | None, units: str) -> None:
    text = (
        'sohu 1.0\nuse "blocks/norm.sohu"\n# größer 😀 \u2028 als\n'
        'block b(x: f32[B, S, D]) -> f32[B, S, D] {\n  return rms("größe 😀", x, eps=0.1)\n}\n'
    )

    async def script(editor: Editor) -> None:
        editor.open("untitled:1", text)
        assert editor.units == units
        assert await editor.until(lambda told: True) == []
        asked = lsp.HoverParams(editor.document, editor.position('😀", x'))
        answer = await editor.client.text_document_hover_async(asked)
        assert answer is not None
        place = lsp.Range(editor.position('😀", '), editor.position('😀", x'))
        assert answer.range == place

    edited(script, offered)


def test_requests_that_are_none_are_answered_with_errors() -> None:
    place = {"line": 10**8, "character": 10**8}
    text = {"uri": "file:///etc/passwd"}
    answers = answered(
        [
            ("textDocument/hover", {"textDocument": text, "position": place}),
            ("textDocument/hover", {"nonsense": 1}),
            ("textDocument/hover", {"textDocument": text, "position": {"line": -1}}),
            ("textDocument/hover", [[]] * 99),
            ("textDocument/sing", {}),
        ]
    )
    assert answers[0]["result"] is None
    assert [a["error"]["code"] for a in answers[1:]] == [-32602, -32602, -32602, -32601]


def test_the_server_goes_on_after_hostile_texts() -> None:
    async def script(editor: Editor) -> None:
        opened(editor)
        sound = editor.text
        long, deep = "x" * 300_000, "sohu 1.0\n" + "(" * 300
        for text, code in ((long, "S106"), (deep, "S105"), ("\x00" * 99, "S101")):
            editor.change(text)
            await editor.until(lambda told, code=code: codes(told) == [code])
            assert await editor.hover(text[:5]) == ""
        editor.change(sound)
        await editor.until(lambda told: told == [])
        assert "bf16[B, S, D]" in await editor.hover("x = x + gqa_att")

    edited(script)


def test_another_file_is_read_where_use_may_look_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.sohu").write_text("sohu 1.0\nblock b(x: f32[N]) -> f32[N] { return x }\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "link.sohu").symlink_to(tmp_path / "secret.sohu")

    async def script(editor: Editor) -> None:
        for used in ("../secret.sohu", str(tmp_path / "secret.sohu"), "link.sohu"):
            opened(editor, tmp_path / "inner" / "t.sohu", f'sohu 1.0\nuse "{used}"\n')
            await editor.until(lambda told: codes(told) == ["S227"])
            assert await editor.definitions('use "') == []

    edited(script)


@pytest.mark.parametrize(
    "sent", [b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 2\r\n\r\n[]"]
)
def test_what_is_no_message_is_told_in_lines(sent: bytes) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SERVE], input=sent, capture_output=True, timeout=LIMIT_S, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    told = ended.stderr.decode().splitlines()
    assert told
    assert all(line.startswith("sohu lsp: ") for line in told)

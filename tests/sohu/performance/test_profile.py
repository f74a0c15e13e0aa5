# SPDX-License-Identifier: Apache-2.0
"""`sohu profile`: its text, JSON, traces, explanations and page, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from device_model.cost.calibration import SECTIONS
from device_model.memory.use import MemoryUse
from sohu.commands.cli import main
from sohu.performance.profile.explain import explained, lines
from sohu.performance.profile.formulas import FORMULAS, parameter_words
from sohu.performance.profile.model import Profile, profile_of, sweep_of
from sohu.performance.profile.page import render_page
from sohu.performance.profile.plots import points
from sohu.performance.profile.trace import (
    ENGINE_TRACKS,
    HOST,
    LAYERS,
    memory_over_time,
    slices,
    trace_bytes,
)
from sohu.performance.profile.words import rests_on
from tests.conftest import TESTS
from tests.porting.report.test_report import HOSTILE, Page

PORTS = TESTS.parent / "model_zoo/ports"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def llama() -> Profile:
    return profile_of(PORTS / "llama-3.1-70b.sohu", "h100", "bf16", mesh="tp=8", host=1e-3)


@pytest.fixture(scope="module")
def sohu() -> Profile:
    return profile_of(PORTS / "qwen3-30b-a3b.sohu", "sohu", "f8e4m3", mesh="tp=2,ep=4", batch=4)


# The numbers


def test_a_step_is_the_sum_of_its_layers(llama: Profile) -> None:
    for phase in llama.phases:
        assert sum(p.count * p.seconds for p in phase.parts) + 1e-3 == pytest.approx(
            phase.timeline.seconds
        )
        assert phase.rate(phase.timeline) == phase.tokens / phase.timeline.seconds


def test_layers_run_in_order() -> None:
    found = profile_of(PORTS / "gemma-3-27b-text.sohu", "h100", "bf16")
    ran = [layer for layer, _ in found.phases[0].in_order()]
    assert ran == [None, *range(62), None]
    assert len({p.name for p in found.phases[0].parts}) == len(found.phases[0].parts)


def test_all_swept_values_are_timed(sohu: Profile) -> None:
    assert [c["hbm_bw"] for c in sohu.swept] == [4e12, 5e12, 6e12, 7e12, 8e12]
    assert all(len(p.timelines) == 5 for p in sohu.phases)
    assert "hbm_bw" in sohu.uncertain


def test_a_headline_says_on_what_doubtful_values_it_rests(llama: Profile) -> None:
    prefill = next(p for p in llama.phases if p.name == "prefill")
    assert next(iter(prefill.timeline.waits())) == "power"
    words = rests_on(llama, prefill)
    assert {"flop_joule", "hbm_joule_per_byte", "idle_w"} <= set(re.findall(r"\w+", words))
    assert words in render_page(llama)
    sure = {k: replace(q, confidence="high") for k, q in llama.device.quantities.items()}
    trusted = replace(llama, device=replace(llama.device, quantities=sure))
    assert not rests_on(trusted, prefill)


def test_many_combinations_keep_their_ends(sohu: Profile) -> None:
    bandwidth = sohu.device.quantities["hbm_bw"]
    many = dict.fromkeys(("hbm_bw", "link_bw", "units"), bandwidth)
    found = sweep_of(replace(sohu.device, quantities={**sohu.device.quantities, **many}))
    assert len(found) == 2**3


# Text and JSON


def arguments(name: str, device: str, *more: str) -> list[str]:
    return ["profile", str(PORTS / f"{name}.sohu"), "--device", device, *more]


def test_text_says_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments("llama-3.1-70b", "sohu", "--mesh", "tp=8", "--numerics", "f8e4m3")
    assert main(given) == 0
    said = capsys.readouterr().out
    for words in (
        "tokens/s of all 8 chips", "MFU", "main memory busy", "waits for", "fits: at most",
        "80 ×", "12 of 14 values of this chip are of low confidence", "calibration sohu",
        "8.00 TB/s", "hbm_bw (4.00 – 8.00 TB/s) is not known", "most of it in", "all_reduce",
    ):  # fmt: skip
        assert words in said


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments("qwen3-30b-a3b", "h100", "--seq", "100", "--context", "50", "--json")
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "sohu.profile/1"
    assert found["verdict"] == "pass"
    decode, prefill = found["phases"]["decode"], found["phases"]["prefill"]
    assert (decode["new_tokens"], decode["context"]) == (1, 50)
    assert (prefill["new_tokens"], prefill["context"]) == (100, 0)
    total = sum(part["total_seconds"] for part in decode["layers"])
    assert total == pytest.approx(decode["seconds"])
    tasks = [task for part in decode["layers"] for task in part["tasks"]]
    assert {"name", "seconds", "bound", "terms", "sizes"} <= set(tasks[0])


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments("llama-3.1-70b", "h100")) == 1
    assert "does not fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--device", "a100", "--numerics", "f8e4m3"], "S609"),
        (["--device", "h100", "--numerics", "f7"], "S609"),
        (["--device", "h999"], "S602"),
        (["--device", "h100", "--mesh", "tp=17"], "S305"),
        (["--device", "h100", "--mesh", "tp=x"], "S306"),
        (["--device", "h100", "--mesh", "xp=2"], "S303"),
        (["--device", "sohu", "--mesh", "tp=32"], "S305"),
        (["--device", "cpu", "--mesh", "tp=2"], "S603"),
        (["--device", "h100", "--explain", "attentoin"], "S615"),
        (["--device", "h100", "--trace", "/"], "S530"),
    ],
)
def test_refusals_are_diagnostics(
    more: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(PORTS / "llama-3.1-8b.sohu"), *more]) == 2
    assert code in capsys.readouterr().err


# Explanations


def test_every_term_and_parameter_has_words() -> None:
    assert set(FORMULAS) == set(SECTIONS)
    for section, kind in SECTIONS.items():
        assert set(parameter_words(section)) == set(kind.__dataclass_fields__)


def test_explanations_name_every_source(llama: Profile, sohu: Profile) -> None:
    for profile in (llama, sohu):
        tasks = explained(profile, "")
        assert {t.name for t in tasks} >= {"vector", "collective", "attention_decode"}
        for task in tasks:
            text = "\n".join(lines(task))
            assert len(list(task.terms)) == len(task.entry.terms)
            assert all(q.source in text for q in task.quantities.values())
            assert task.formula.composition in text
            assert "parameters of" in text


def test_terms_of_attention_add_up(llama: Profile) -> None:
    for task in explained(llama, "attention"):
        total = sum(seconds for _, seconds, _ in task.terms)
        assert total == pytest.approx(task.entry.seconds)


def test_the_menu_of_a_collective_begins_with_what_was_taken(llama: Profile) -> None:
    for task in explained(llama, "all_reduce"):
        name, seconds = next(iter(task.menu.items()))
        assert name.split(",")[0] == task.entry.choice
        assert seconds == pytest.approx(task.entry.terms["links"])


def test_explanations_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments("llama-3.1-8b", "h100", "--explain", "wg+wu", "--json")
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)["explained"]
    assert [x["phase"] for x in found] == ["decode", "prefill"]
    assert found[0]["parameters"]["section"] == "gemm_bf16"


# Traces


@pytest.mark.parametrize("most", [20_000, 10])
def test_slices_do_not_overlap_and_sum_to_the_step(
    llama: Profile, sohu: Profile, most: int
) -> None:
    for phase in (*llama.phases, *sohu.phases):
        found = list(slices(phase, most))
        for track in (LAYERS, *ENGINE_TRACKS):
            own = [s for s in found if s.track == track]
            assert all(a.end <= b.start + 1e-15 for a, b in pairwise(own))
        worked = [s for s in found if s.track in (*ENGINE_TRACKS[:3], HOST)]
        total = sum(s.end - s.start for s in worked)
        assert total == pytest.approx(phase.timeline.seconds, rel=1e-9)
        busy = sum(s.end - s.start for s in found if s.track == "memory")
        assert busy == pytest.approx(phase.timeline.engines()["memory"], rel=1e-9)


def test_few_slices_where_layers_are_many(llama: Profile) -> None:
    layers = [s for s in slices(llama.phases[0], 10) if s.track == LAYERS]
    assert len(layers) == 82
    assert len(list(slices(llama.phases[0], 10))) < len(list(slices(llama.phases[0]))) / 2


def test_a_pipeline_sends_between_its_stages() -> None:
    found = profile_of(PORTS / "llama-3.1-8b.sohu", "h100", "bf16", mesh="pp=4")
    for phase in found.phases:
        made = [s for s in slices(phase) if s.track == LAYERS]
        assert sum("between stages" in s.name for s in made) == 3
        total = sum(p.count * p.seconds for p in phase.parts)
        assert total == pytest.approx(phase.timeline.seconds)
    page = render_page(found)
    assert "between stages of the pipeline" in page


def test_a_trace_parses_back(sohu: Profile) -> None:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

    content = trace_bytes(sohu)
    assert len(content) < 2_000_000
    trace = Trace()
    trace.ParseFromString(content)
    tracks = {p.track_descriptor.uuid: p.track_descriptor for p in trace.packet}
    processes = [t.process.process_name for t in tracks.values() if t.HasField("process")]
    assert len(processes) == 2
    assert all("qwen3-30b-a3b" in name for name in processes)
    names = {x.iid: x.name for p in trace.packet for x in p.interned_data.event_names}
    open_: dict[int, tuple[int, str]] = {}
    ends: dict[int, int] = {}
    spent: dict[str, int] = {}
    least = min(round(p.memory.lasting) for p in sohu.phases)
    for packet in trace.packet:
        if not packet.HasField("track_event"):
            continue
        event, at = packet.track_event, packet.timestamp
        track = event.track_uuid
        if event.type == event.TYPE_SLICE_BEGIN:
            assert track not in open_
            assert at >= ends.get(track, 0)
            open_[track] = at, names[event.name_iid]
        elif event.type == event.TYPE_SLICE_END:
            start, _ = open_.pop(track)
            ends[track] = at
            spent[tracks[track].name] = spent.get(tracks[track].name, 0) + at - start
        else:
            assert event.counter_value >= least
    assert open_ == {}
    engines = sum(spent[name] for name in ENGINE_TRACKS[:3])
    nanoseconds = sum(p.timeline.seconds for p in sohu.phases) * 1e9
    assert engines == pytest.approx(nanoseconds, abs=4)
    assert spent[LAYERS] == pytest.approx(nanoseconds, abs=4)


def test_memory_over_time_reaches_the_peak(llama: Profile) -> None:
    for phase in llama.phases:
        steps = list(memory_over_time(phase))
        assert max(size for _, size in steps) == phase.memory.total
        assert steps[-1][1] == phase.memory.lasting


# The page


def test_no_task_is_above_the_roof(llama: Profile, sohu: Profile) -> None:
    latent = profile_of(PORTS / "deepseek-v3-671b.sohu", "sohu", "f8e4m3", mesh="tp=8")
    for phase in (*llama.phases, *sohu.phases, *latent.phases):
        chip = phase.timeline.prices.chip
        for point in points(phase):
            roof = min(float(chip.peak), point.intensity * float(chip.bandwidth))
            assert point.rate <= roof * 1.02, point


def test_page_is_self_contained(llama: Profile, sohu: Profile) -> None:
    for profile in (llama, sohu):
        page = Page(render_page(profile))
        for _, attributes in page.elements:
            assert not {"src", "srcset"} & set(attributes)
            assert (attributes.get("href") or "#").startswith("#")
        for words in ("Roofline", "Time by operation", "Memory over time", profile.device.name):
            assert words in page.text
        assert all(q.source in page.text for q in profile.device.quantities.values())


def test_page_escapes_text(llama: Profile) -> None:
    hostile = replace(llama, name=HOSTILE, device=replace(llama.device, note=HOSTILE))
    text = render_page(hostile)
    assert "<img" not in text
    assert HOSTILE in Page(text).text


def test_page_of_a_program_without_activations(llama: Profile) -> None:
    phase = llama.phases[0]
    nothing = MemoryUse(1, 1, 0, 0)
    parts = tuple(replace(p, activations=(0.0,) * len(p.entries)) for p in phase.parts)
    bare = replace(llama, phases=(replace(phase, memory=nothing, parts=parts),))
    assert "Memory over time" not in Page(render_page(bare)).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_in_a_browser(sohu: Profile, scheme: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    page = tmp_path / "page.html"
    page.write_text(render_page(sohu), encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1100,1400",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall(r"<svg", done.stdout)) == 6
    assert "CONSOLE" not in done.stderr


# Start-up


@pytest.mark.parametrize(("device", "numerics"), [("h100", "bf16"), ("sohu", "f8e4m3")])
def test_profile_loads_no_heavy_library(device: str, numerics: str) -> None:
    given = arguments("llama-3.1-70b", device, "--mesh", "tp=8", "--numerics", numerics)
    command = [sys.executable, "-X", "importtime", "-m", "sohu", *given]
    done = subprocess.run(
        command,
        cwd=PORTS.parents[1],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {x.rsplit("|", 1)[-1].strip().split(".")[0] for x in done.stderr.splitlines()}
    assert loaded & {"torch", "transformers", "numba", "jinja2", "perfetto", "google"} == set()

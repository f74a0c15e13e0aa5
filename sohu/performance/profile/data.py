# SPDX-License-Identifier: Apache-2.0
"""A profile as JSON data, schema "sohu.profile/1"; seconds, bytes, FLOPs and shares as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite

from device_model.timeline.kinds import named
from device_model.timeline.schedule import Entry, Timeline
from sohu.performance.profile.explain import Explained
from sohu.performance.profile.model import Layers, Phase, Profile
from sohu.performance.profile.words import rests_on, trust

SCHEMA = "sohu.profile/1"


def as_dict(profile: Profile) -> dict[str, object]:
    """Return the whole profile."""
    return {
        **_head(profile),
        "phases": {phase.name: _phase(profile, phase) for phase in profile.phases},
    }


def explained_as_dict(profile: Profile, tasks: Sequence[Explained]) -> dict[str, object]:
    """Return how the times of some tasks came about."""
    return {**_head(profile), "explained": [_explained(task) for task in tasks]}


def _head(profile: Profile) -> dict[str, object]:
    device, known = profile.device, profile.calibration
    return {
        "schema": SCHEMA,
        "verdict": "pass" if profile.fits else "fail",
        "model": {"name": profile.name, "family": profile.graph.family},
        "device": {
            "id": device.id,
            "name": device.name,
            "memory_bytes": device.memory_bytes,
            "low_confidence": list(profile.uncertain),
            "quantities": {key: asdict(q) for key, q in device.quantities.items()},
        },
        "numerics": profile.dtype,
        "logits": profile.logits.value,
        "skew": profile.skew,
        "mesh": dict(profile.mesh),
        "chips": profile.chips,
        "calibration": {"name": known.name, "title": known.title},
        "swept": [dict(changes) for changes in profile.swept] if len(profile.swept) > 1 else [],
        "notes": list(trust(profile)),
    }


def _phase(profile: Profile, phase: Phase) -> dict[str, object]:
    use = phase.memory
    return {
        "batch": phase.batch,
        "new_tokens": phase.new,
        "context": phase.context,
        "fits": use.total <= profile.device.memory_bytes,
        "memory_bytes": {
            "peak": use.total,
            "weights": use.weights,
            "weights_as_stored": use.stored,
            "state": use.state,
            "activations": use.activations,
        },
        **_line(phase, phase.timeline),
        "bottleneck": phase.timeline.bottleneck(),
        "bottleneck_rests_on": rests_on(profile, phase),
        "swept": [
            {"at": dict(changes), **_line(phase, line)}
            for changes, line in zip(profile.swept, phase.timelines, strict=True)
            if changes
        ],
        "layers": [_layers(phase, part) for part in phase.parts],
    }


def _line(phase: Phase, line: Timeline) -> dict[str, object]:
    return {
        "seconds": line.seconds,
        "interval_seconds": line.interval,
        "host_seconds": line.host,
        "tokens_per_second": phase.rate(line),
        "tokens_per_second_per_sequence": phase.user_rate(line),
        "flops": line.flops,
        "bytes": line.bytes,
        "mfu": line.mfu,
        "memory_busy": line.bandwidth_use,
        "engine_seconds": dict(line.engines()),
        "waiting_seconds": dict(line.waits()),
    }


def _layers(phase: Phase, part: Layers) -> dict[str, object]:
    return {
        "name": part.name,
        "layers": list(part.layers),
        "seconds": part.seconds,
        "total_seconds": part.count * part.seconds,
        "bottleneck": phase.timeline.bottleneck(part.key),
        "tasks": [_task(entry) for entry in part.entries],
    }


def _task(entry: Entry) -> dict[str, object]:
    task = entry.task
    return {
        "name": task.name,
        "operations": list(task.ops),
        "in": list(task.path),
        "engine": entry.engine,
        "seconds": entry.seconds,
        "memory_seconds": entry.memory_seconds,
        "bound": entry.bound,
        "choice": entry.choice,
        "place": entry.place,
        "flops": entry.flops,
        "bytes": entry.bytes,
        "sizes": _finite(named(task.sizes)),
        "terms": _finite(entry.terms),
    }


def _explained(task: Explained) -> dict[str, object]:
    return {
        "phase": task.phase.name,
        "layers": task.where,
        "task": _task(task.entry),
        "composition": task.formula.composition,
        "terms": [
            {"name": name, "seconds": seconds, "words": words}
            for name, seconds, words in task.terms
        ],
        "menu": dict(task.menu),
        "quantities": {key: asdict(q) for key, q in task.quantities.items()},
        "parameters": {
            "section": task.name,
            "family": task.section.family,
            "fitted": dict(task.section.fitted),
            "values": asdict(task.section.parameters),
        },
    }


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if isfinite(value)}

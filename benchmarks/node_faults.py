# SPDX-License-Identifier: Apache-2.0
"""Campaigns of faults: seeds over simulated wires, and runs of real processes of which some are killed.

`python -m benchmarks.node_faults --seeds 100000 --jobs 2`, or `--runs 200` in place of seeds. What was wrong
is said by seed; the status is 1 where anything was.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from device_model.mesh.faults import NONE, Faults, planned
from device_model.mesh.link import Patience
from device_model.mesh.trial import Verdict, tried
from dsl.diagnostics import Refused
from sohu.nodes.cluster import Cluster
from sohu.nodes.driver import Conditions, NodesSession, Work, greedy
from sohu.nodes.launch import Processes

CHUNK = 500
NODES, TOKENS, PROMPT = 4, 12, 3
DRILL = Work("drill", {"seed": 1}, ({"tp": 8}, {"tp": 4}, {"tp": 2}, {"tp": 1}))
PATIENCE = Patience(beat_s=2.0, resend_s=0.25, resends=8, exchange_s=60.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="simulated sessions")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that simulate")
    parser.add_argument("--runs", type=int, default=0, metavar="N", help="of real processes")
    options = parser.parse_args(arguments)
    wrong = 0
    if options.seeds:
        wrong += simulate(range(options.first, options.first + options.seeds), options.jobs)
    if options.runs:
        wrong += run(range(options.first, options.first + options.runs))
    return 1 if wrong else 0


def simulate(seeds: Sequence[int], jobs: int) -> int:
    """Try seeds over simulated wires and print what they came to; return how many went wrong."""
    start, wrong, frames, latest = time.perf_counter(), 0, 0, 0.0
    ends: Counter[str] = Counter()
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs) as pool:
        for verdicts in pool.map(_tried, chunks):
            for verdict in verdicts:
                ends[f"{verdict.fault}: {', '.join(verdict.codes) or 'right tokens'}"] += 1
                frames += verdict.frames
                latest = max(latest, verdict.detected_s or 0.0)
                if verdict.wrong:
                    wrong += 1
                    print(f"seed {verdict.seed}: {'; '.join(verdict.wrong)}", flush=True)
    for end, count in sorted(ends.items()):
        print(f"{count:>8,}  {end}")
    took = time.perf_counter() - start
    print(f"{len(seeds):,} seeds, {frames:,} frames, {wrong} wrong, in {took:.0f} s")
    print(f"the last of a crash to be told knew after {latest:.2f} s of a heartbeat of 1 s")
    return wrong


def _tried(seeds: Iterable[int]) -> list[Verdict]:
    return [tried(seed) for seed in seeds]


def run(seeds: Sequence[int]) -> int:
    """Run drills on processes, kill some at any moment, and print what they came to; return how many went wrong."""
    wrong, ends = 0, Counter[str]()
    known: list[float] = []
    recovered: list[float] = []
    expected = _alone()
    with Cluster(Processes()) as cluster:
        cluster.start(range(NODES))
        for seed in seeds:
            if missing := set(range(NODES)) - set(cluster.members):
                cluster.start(missing)
            outcome = _one(cluster, seed, expected, known, recovered)
            ends[outcome] += 1
            wrong += outcome.startswith("wrong")
            print(f"seed {seed}: {outcome}", flush=True)
    for end, count in sorted(ends.items()):
        print(f"{count:>8,}  {end}")
    for name, times in (("known", known), ("next result", recovered)):
        if times:
            shown = ", ".join(f"{q:.0%} {np.quantile(times, q):.3f} s" for q in (0.5, 0.95, 1.0))
            print(f"{name} after a kill: {shown} ({len(times)} kills)")
    return wrong


def _one(
    cluster: Cluster, seed: int, expected: Sequence[int], known: list[float], recovered: list[float]
) -> str:
    """Run one drill: even seeds have a node killed, odd ones faults of frames too; every other goes on without it."""
    draws = np.random.default_rng(seed)
    rates = planned(seed, NODES, 8).rates
    faults = Faults(seed, rates, late_s=0.05) if seed % 2 else NONE
    conditions = Conditions(2, PATIENCE, faults, restarts=bool(seed // 2 % 2))
    session = NodesSession(cluster, DRILL, conditions)
    victim = cluster.members[int(draws.integers(NODES))].pid
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        os.kill(victim, signal.SIGKILL)

    timer = threading.Timer(float(draws.uniform(0.0, 1.0)), kill)
    timer.start()
    try:
        tokens = list(greedy(session, [PROMPT], TOKENS))
    except Refused as refused:
        tokens, codes = [], {d.code for d in refused.diagnostics}
    timer.cancel()
    timer.join()
    dead = [incident for incident in session.incidents if incident.dead and killed]
    known += [incident.known_at - killed[0] for incident in dead]
    recovered += [i.recovered_at - killed[0] for i in dead if i.recovered_at]
    session.end()
    if not tokens:
        return f"refused, {', '.join(sorted(codes))}" if codes else "wrong: a silent end"
    if tokens != list(expected):
        return "wrong: other tokens"
    return f"right tokens{', a node killed in it' if dead else ''}"


def _alone() -> list[int]:
    """Return the tokens of a drill on one node of one rank."""
    with Cluster(Processes()) as cluster:
        cluster.start((0,))
        work = Work(DRILL.kind, DRILL.spec, ({"tp": 1},))
        return list(greedy(NodesSession(cluster, work, Conditions()), [PROMPT], TOKENS))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The commands of the valid case, with `{case}` for its folder."""

from __future__ import annotations

PLAN = ("port", "{case}/m", "--plan", "--out", "{case}/out")
ADAPTED = ("port", "{case}/m", "--adapter", "{case}/a", "--plan", "--out", "{case}/out")
RUN = ("run", "{case}/p", "--tokens", "{case}/t.npy", "--logits", "{case}/l.npy")
GENERATE = ("generate", "{case}/p", "--prompt", "w1 w2", "--max-new-tokens", "1")
PREDICT = ("predict", "{case}/t.csv", "--op", "gemm", "--device", "h100", "--out", "{case}/o.csv")
CALIBRATE = ("calibrate", "{case}/c", "--out", "{case}/fits.toml")

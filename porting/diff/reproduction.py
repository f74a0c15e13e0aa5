# SPDX-License-Identifier: Apache-2.0
"""Write a departing operation down so that it can be looked at alone: its operands, its result and what it was.

`python -m porting.diff.reproduction FOLDER` computes it again. The reference is not needed for that.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from device_model.kernels.table import KERNELS
from device_model.numbers.catalogue import numerics_named
from device_model.numbers.numerics import wide
from device_model.numbers.packed import Packed
from device_model.program.call import Batch, Call, Operand
from dsl.regular_file import open_regular, read_regular
from dsl.types import DTYPES, DType
from porting.diff.search import Guilty
from porting.files.atomic import replace_directory

CASE, VALUES = "case.json", "values.npz"
MAX_CASE = 2**24
BATCH = ("slots", "positions", "starts", "lengths")


def write(folder: Path, guilty: Guilty, text: str) -> bool:
    """Write the operation into a folder; `text` is its line. False where an operand is packed as stored."""
    seen = guilty.last
    if seen is None or any(isinstance(operand, Packed) for operand in seen.operands):
        return False
    case = {
        "op": guilty.op,
        "layer": guilty.layer,
        "text": text,
        "operands": list(seen.operation.operands),
        "states": [isinstance(operand, tuple) for operand in seen.operands],
        "attrs": {name: _written(value) for name, value in seen.operation.attrs.items()},
    }
    arrays = {f"operand{i}": _array(operand) for i, operand in enumerate(seen.operands)}
    arrays |= {f"batch_{name}": getattr(seen.batch, name) for name in BATCH}
    arrays["result"] = wide(seen.result)
    stored = io.BytesIO()
    np.savez(stored, **arrays)  # type: ignore[arg-type]
    text_of_case = json.dumps(case, indent=2) + "\n"
    replace_directory(folder, {CASE: text_of_case.encode(), VALUES: stored.getvalue()})
    return True


def replay(folder: Path) -> float:
    """Compute the operation again and return how far it is from what it gave, relative to that."""
    case = json.loads(read_regular(folder / CASE, MAX_CASE))
    with (
        open_regular(folder / VALUES) as stream,
        np.load(stream, allow_pickle=False) as values,
    ):
        arrays = {name: values[name] for name in values.files}
    operands: list[Operand] = []
    for number, is_state in enumerate(case["states"]):
        array = arrays[f"operand{number}"]
        operands.append((array,) if is_state else array)
    batch = Batch(*(arrays[f"batch_{name}"] for name in BATCH))
    attrs = {name: _read(value) for name, value in case["attrs"].items()}
    call = Call(tuple(operands), tuple(case["operands"]), attrs, batch, numerics_named("f32"))
    result = np.asarray(KERNELS[case["op"]].reference(call)[0], np.float64)
    wanted = np.asarray(arrays["result"], np.float64)
    length = float(np.sqrt((wanted**2).sum()))
    return float(np.sqrt(((result.reshape(wanted.shape) - wanted) ** 2).sum())) / max(length, 1e-30)


def _array(operand: Operand) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(operand, Packed):
        raise TypeError("a packed weight is no array")
    array = operand[0] if isinstance(operand, tuple) else operand
    return wide(array) if array.dtype.kind not in "iub" else array


def _written(value: object) -> object:
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, tuple):
        return [_written(operation) for operation in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return DTYPES[value["dtype"]]
    return tuple(_read(operation) for operation in value) if isinstance(value, list) else value


if __name__ == "__main__":
    print(f"distance from the recorded result: {replay(Path(sys.argv[1])):.2e}")

# SPDX-License-Identifier: Apache-2.0
"""Token ids as whole numbers in an array, from whatever a caller hands over. Whose ids they are is not known here."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsl.diagnostics import refuse

LARGEST = 2**62


def token_array(
    tokens: npt.ArrayLike, axes: tuple[str, ...], place: str = ""
) -> npt.NDArray[np.int64]:
    """Return tokens as int64, with the axes of one of `axes`; raises `Refused` for anything else, and for none."""
    try:
        array = np.asarray(tokens)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:160]
        raise refuse("S532", f"the tokens are no array: {reason}", place=place) from error
    if array.dtype.kind not in "iu" or array.ndim not in map(len, axes):
        wanted = " or ".join(f"[{', '.join(names)}]" for names in axes)
        message = f"the tokens are {array.dtype} {list(array.shape)}; int {wanted} is needed"
        raise refuse("S532", message, place=place)
    if not array.size:
        raise refuse("S532", f"the tokens are empty: {list(array.shape)}", place=place)
    if int(array.max()) > LARGEST:
        raise refuse("S532", f"token {int(array.max())} is no token of any model", place=place)
    return np.asarray(array, np.int64)

"""`x[...]` and `x[...] = v`: which elements are meant, and the operations that read or write them.

Where a slice starts and which element an integer means are inputs of the program; only sizes and
strides are part of it. So `data[i * B : (i + 1) * B]` with a running `i` is one program. Values
have no aliases: writing makes a new value and binds the handle to it.
"""

from proa.indexing.access import getitem, setitem
from proa.indexing.temporaries import counts_of_temporary, is_part, warn_if_part

__all__ = ["counts_of_temporary", "getitem", "is_part", "setitem", "warn_if_part"]

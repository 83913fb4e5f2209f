"""The names under which model code knows this package.

Models import `triton_python_backend_utils`. The classes in it say that they come from
`c_python_backend_utils`, the extension module of Triton's own stub process, because their full names stand in
error messages that clients see.
"""

from typing import Final

UTILITIES_MODULE: Final = "triton_python_backend_utils"
EXTENSION_MODULE: Final = "c_python_backend_utils"

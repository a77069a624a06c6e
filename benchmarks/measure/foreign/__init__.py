"""Other libraries, each in a process of its own that times its own calls.

Two libraries in one process share its cores badly, and JAX decides on threads and precision as it
is imported. `process` is our end of the pipe, `server` the other one, `wire` what passes between
them; a peer is a module of `peers`. The other process never imports torch unless its peer does.
"""

version = 1  # raised when a change moves what a peer computes
pace = 1  # raised when it moves measured times alone

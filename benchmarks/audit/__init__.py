"""The audit: the conformance kit on every family of other libraries, its failures confirmed.

A failure counts as a fault only if the library's own flow shows it in a process that never imports
`flows`: by lines of Python that a reader can run.
"""

version = 1
pace = 1

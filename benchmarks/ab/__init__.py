"""Two revisions timed against each other: blocks of base, new, new, base on one core.

`session.duel` is the whole of it: `checkouts` lays both revisions out, `environments` finds each an
interpreter, `link` holds a process of each, which runs `worker`, `schedule` says who is timed when,
`judgement` what the blocks say, `rendering` how that is shown. `power` measures how much it sees.
"""

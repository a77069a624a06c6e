"""Time two revisions against each other: blocks of base, new, new, base on one core.

`session.compare` does it. `subject` is what of them is timed, `checkouts` lays both out,
`environments` finds an interpreter for each, `link` holds a process of each, which runs `worker`,
`schedule` orders the calls, `judgement` tests the paired times, `rendering` writes tables, Markdown
and JSON.
"""

"""FloQL, the query language for time series (SPEC section 6): text to a plan, and a plan to an answer.

It is pure: no clock, no input or output, no store. `parser.parse` reads the text, `plan.make_plan` decides what to read and in which order
the stages work, and `evaluate.evaluate` runs the plan over a `source.Source` in slices. docs/floql.md is the page for users.
"""

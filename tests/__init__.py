"""Flo's tests, in folders that mirror flo/. `make check` runs the fast ones, `make test` all, `make long` the long versions too.

A file whose tests are held to no time says `pytestmark = pytest.mark.computes`: `make` runs it beside the rest, at the lowest priority.
"""

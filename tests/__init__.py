"""Flo's tests. `make check` runs the fast ones, `make test` all, `make long` the long versions too."""

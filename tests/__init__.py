"""Flo's tests. `make test` runs them; `make long` runs the long versions."""

"""Frameworks of workers on Flo's queues and keys: one module for each, which imports its framework. docs/frameworks.md explains them."""

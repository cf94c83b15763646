"""Flo under the frameworks of others: a module for each, named after it, which imports it. docs/frameworks.md explains them."""

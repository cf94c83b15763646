"""Flo under the frameworks of others: one module for each framework, named after it, which imports it. Nothing in Flo imports these."""

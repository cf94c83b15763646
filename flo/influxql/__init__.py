"""The part of InfluxQL that SPEC section 6.1 names: what Grafana's query builder, variables and health check send. It is
pure, as `flo.floql` is.
"""

"""The projections, as flo/store."""

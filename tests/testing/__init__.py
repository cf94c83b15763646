"""flo.testing: throw-away servers, and the fixtures of pytest."""

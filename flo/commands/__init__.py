"""From requests to the engine's operations to replies: a package for each protocol, and the runner that executes the requests of all."""

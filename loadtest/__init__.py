"""Load generators and comparisons. They talk to this machine's loopback only, and stop by themselves."""

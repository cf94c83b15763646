"""Load generators and comparisons. They use only this machine's loopback, and stop by themselves."""

"""Several machines: the log replicated through etcd (docs/cluster.md)."""

"""The Unified Append Log: records, batches, segments, files, recovery. docs/log-format.md has the layout of the bytes."""

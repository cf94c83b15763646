"""The Unified Append Log: records, batches, segments, files, recovery. The bytes are in docs/log-format.md."""

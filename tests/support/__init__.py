"""Servers as processes, disks that fail, fakes and models that several tests use."""

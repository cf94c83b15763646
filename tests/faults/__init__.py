"""Crashes, kills, damage, failing calls and full disks."""

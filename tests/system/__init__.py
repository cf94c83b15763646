"""Real servers with real clients, and the programs of loadtest/ and contrib/."""

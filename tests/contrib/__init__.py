"""The modules of flo/contrib/ with their frameworks. The frameworks have an environment of their own, `.tools/frameworks`; the files
`cases_*.py` run there."""

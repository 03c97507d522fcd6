"""Checks of deploy/ and docker-compose.yml, file by file; with the real tools in `make prove`."""

"""What deploy/ and docker-compose.yml promise, checked file by file; with the real tools in `make prove`."""

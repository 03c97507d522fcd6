"""Lockgate, the gateway program. Start reading at `pipeline.py`; `CONTRIBUTING.md` maps the packages."""

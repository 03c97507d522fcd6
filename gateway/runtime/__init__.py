"""What a process holds, and what one configuration (a generation) holds. A reload replaces the generation.

Imported by gateway.server, gateway.admin and gateway.commands.
"""

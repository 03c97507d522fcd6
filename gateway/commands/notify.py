"""`lockgate notify test`: send a test notification to the configured webhook."""

from __future__ import annotations

import click

from gateway.commands.options import config_option


@click.group(short_help="Test the notifications about budgets and targets.")
def notify() -> None:
    """Test the notifications that `notify` in the configuration sets up."""


@notify.command("test", short_help="Send a test notification to the configured webhook.")
@config_option
def send_test(config_path: str | None) -> None:
    """Send one notification with the event `test` from this machine, without retries.

    The exit code is 1 if the webhook does not accept it.

    \b
    lockgate notify test
    lockgate notify test --config my.yaml
    """
    import asyncio

    from gateway.config import load as config
    from gateway.notify.events import trial
    from gateway.notify.sender import post

    path = config_path or config.find_config_path()
    settings = config.load(path).notify
    if settings is None:
        raise click.ClickException(f"{path} has no notify: add notify: {{ webhook: URL }}")
    rejected = asyncio.run(post(settings, trial()))
    if rejected is not None:
        raise click.ClickException(f"the webhook did not accept the notification: {rejected.reason}")
    click.echo("the webhook accepted the notification")

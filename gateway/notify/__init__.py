"""Notifications about budgets and targets, sent to a webhook."""

"""What operators see of calls: log lines, traces, per-call metrics. Imports the call, its usage and metrics; no other stage."""

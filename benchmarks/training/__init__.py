"""Training: settings and schedules, a flow made ready (preparing), the one loop, checkpoints."""

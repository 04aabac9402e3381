"""The periodic chores: heartbeat, deadlines, lapsed leases, figures, retention, replays. One small class each.

A chore is `run_forever`: it does its work, says when to come again, and outlasts the loss of the database. Seconds.
"""

from pgrelay.upkeep.chore import Chore, run_forever
from pgrelay.upkeep.deadlines import FireDeadlines
from pgrelay.upkeep.figures import FoldMetrics, ReadFigures, WatchCapture
from pgrelay.upkeep.glance import CALLED, Glance
from pgrelay.upkeep.heartbeat import Heartbeat, lease_clock
from pgrelay.upkeep.leases import ExpireDeliveries, ReleaseLapsed
from pgrelay.upkeep.replays import FeedReplays
from pgrelay.upkeep.retention import Retain
from pgrelay.upkeep.secrets import SealSecrets

__all__ = [
    "CALLED",
    "Chore",
    "ExpireDeliveries",
    "FeedReplays",
    "FireDeadlines",
    "FoldMetrics",
    "Glance",
    "Heartbeat",
    "ReadFigures",
    "ReleaseLapsed",
    "Retain",
    "SealSecrets",
    "WatchCapture",
    "lease_clock",
    "run_forever",
]

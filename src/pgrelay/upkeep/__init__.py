"""The periodic chores: heartbeat, deadlines, leases, figures, retention, replays. One small class each, of one shape.

A chore is `run_forever`: it does its work, says when to come again, and outlasts the loss of the database. Seconds.
"""

from pgrelay.upkeep.chore import Chore, run_forever
from pgrelay.upkeep.deadlines import FireDeadlines
from pgrelay.upkeep.figures import FoldMetrics, ReadFigures, WatchCapture
from pgrelay.upkeep.heartbeat import Heartbeat
from pgrelay.upkeep.leases import ExpireDeliveries, ReleaseLapsed
from pgrelay.upkeep.replays import FeedReplays
from pgrelay.upkeep.retention import Retain
from pgrelay.upkeep.secrets import SealSecrets

__all__ = [
    "Chore",
    "ExpireDeliveries",
    "FeedReplays",
    "FireDeadlines",
    "FoldMetrics",
    "Heartbeat",
    "ReadFigures",
    "ReleaseLapsed",
    "Retain",
    "SealSecrets",
    "WatchCapture",
    "run_forever",
]

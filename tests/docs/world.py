"""The installation that the examples speak of: three tenants, five webhooks, and a delivery in every state.

Webhooks: 1 CRM (callback.*), 2 Billing (callback.completed) and 3 Partner (*) of company 1; 4 Harbour desk of company 2; 5 Old shop of
company 3, whose receiver is gone. Partner's circuit is open, and relay-1 serves it, for it has a limit. Replay 1, to
Partner, waits for that circuit.
Deliveries: 1, 3 and 4 succeeded; 2, to Partner, failed; 5, to Partner, waits for its second attempt; 6 is cancelled;
7 is in flight; 8 was never tried; the daemon that sent 9 died meanwhile. One change could not be captured, and one deadline
is armed.
"""

import json

import psycopg

from docs.blocks import ROOT
from pgrelay.config import load
from pgrelay.delivery import ErrorKind
from support.queue import expand, failed, record, retried, sign_on, succeeded

_WEBHOOKS = """
insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events) values
    ('1', 'CRM', 'https://crm.example.com/hooks', '{callback.*}'),
    ('1', 'Billing', 'https://billing.example.com/hooks', '{callback.completed}'),
    ('1', 'Partner', 'https://partner.example.com/hooks', '{*}'),
    ('2', 'Harbour desk', 'https://desk.example.com/hooks', '{callback.*}'),
    ('3', 'Old shop', 'https://shop.example.com/hooks', '{callback.*}')
"""
_ROW = """
insert into callback_requests (company_id, branch_id, service_id, customer_name, customer_phone, expires_at)
values (%s, 1, 1, 'Ada Lovelace', '+44 20 7946 0000', %s)
"""


def watch_sample(db: psycopg.Connection) -> None:
    """Watch the sample application as config.example.yaml says."""
    settings = load(ROOT / "config.example.yaml", environ={}, credentials=None)
    for source in settings.sources:
        db.execute("select pgrelay.watch(%s, 'main')", [json.dumps(source.definition())])


def furnish(db: psycopg.Connection) -> None:
    """Make all of it, in a database with the schema pgrelay and the sample application."""
    watch_sample(db)
    db.execute(_WEBHOOKS)
    db.execute(_ROW, ["1", None])
    db.execute("update callback_requests set status = 'completed', completed_at = now() where id = 1")
    db.execute(_ROW, ["2", None])
    daemon = sign_on(db, "relay-1", lease=86_400.0)
    leases = {lease.delivery_id: lease for lease in expand(db, daemon).leases}
    unavailable = {
        "error_kind": ErrorKind.STATUS,
        "error_message": "HTTP 503 Service Unavailable",
        "status_code": 503,
    }
    lost = record(
        db,
        daemon,
        *(succeeded(leases[number]) for number in (1, 3, 4)),
        failed(leases[2], **unavailable),
        retried(leases[5], retry_in=60.0),
        retried(leases[6], retry_in=60.0),
    )
    assert lost == []
    db.execute("select pgrelay.cancel_delivery(6)")
    db.execute(_ROW, ["1", "tomorrow"])
    assert expand(db, daemon, room=1).backlog == {3: 1}
    dead = sign_on(db, "relay-2", lease=-1.0)
    db.execute(_ROW, ["2", None])
    assert len(expand(db, dead).leases) == 1
    db.execute("select pgrelay.release_lapsed()")
    db.execute("alter table branches rename column name to title")
    db.execute(_ROW, ["1", None])
    db.execute("alter table branches rename column title to name")
    db.execute("select pgrelay.disable_webhook(5, 'the receiver answered 410 Gone')")
    db.execute("select pgrelay.note_results('{3}', '{f}', '{12}', '{1}', '{null}', '{f}', 10, 10, 300, 0, 0)")
    db.execute("select pgrelay.owned_elsewhere(%s, '{3}')", [daemon])
    db.execute("select pgrelay.start_replay(3, current_date)")

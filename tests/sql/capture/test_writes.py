"""Every way to write a row is captured, each row once."""
from support.watched import Shop

def test_x(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders")
    assert shop.fired("insert into orders (id) values (1)") == ["order.made"]

def test_y(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders")
    assert shop.fired("insert into orders (id) values (1)") == ["order.made"]

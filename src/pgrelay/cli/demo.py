"""`pgrelay demo`: the whole thing, live."""

from pgrelay.cli.context import Context


def demo(context: Context) -> int:
    from pgrelay.demo.show import main

    return main(keep=context.argument("keep"), fast=context.argument("fast"))

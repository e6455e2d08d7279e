"""One may have half of what there is, all together the whole."""

from snowledger_server._shares import Shares


def test_one_may_have_half_so_that_others_get_some() -> None:
    shares = Shares(10)
    assert shares.take("acme", 5)
    assert not shares.take("acme")
    assert shares.take("beta", 4)
    assert shares.take("gamma")
    assert not shares.take("delta"), "all is taken"
    shares.give("acme", 2)
    assert not shares.take("delta", 3)
    assert shares.take("delta", 2)
    for who, amount in (("acme", 3), ("beta", 4), ("gamma", 1), ("delta", 2)):
        shares.give(who, amount)
    assert shares.take("acme", 5)


def test_of_one_there_is_one() -> None:
    assert Shares(1).take("acme")

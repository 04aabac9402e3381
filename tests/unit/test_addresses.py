"""Which URLs and which addresses may be called."""

import ipaddress
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from pgrelay.addresses import REFUSED, Policy, check_addresses, check_url, is_loopback, refusal
from pgrelay.delivery import ErrorKind

STRICT = Policy()
WITH_HTTP = Policy(allow_http=True)
EVERYTHING = Policy.of(["0.0.0.0/0", "::/0"], allow_http=True)

v4 = st.ip_addresses(v=4)  # favours the special ranges
v6 = st.ip_addresses(v=6)
in_refused = st.sampled_from([network for network, _ in REFUSED]).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(type(network[0]))
)
public_v4 = v4.filter(lambda address: refusal(address, STRICT) is None)


def carries_ipv4(address):
    """Whether another address, inside this one, is the one to judge."""
    return any(address in ipaddress.ip_network(network) for network in ("::ffff:0:0/96", "64:ff9b::/96"))


def kind_of(url, policy=STRICT):
    failure = check_url(url, policy)
    return None if failure is None else failure.kind


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("0.0.0.0", "unspecified 0.0.0.0/32"),
        ("0.1.2.3", "this network 0.0.0.0/8"),
        ("10.255.0.1", "private 10.0.0.0/8"),
        ("100.64.0.1", "carrier-grade NAT 100.64.0.0/10"),
        ("100.100.100.200", "cloud metadata service 100.100.100.200/32"),
        ("127.255.255.255", "loopback 127.0.0.0/8"),
        ("168.63.129.16", "cloud metadata service 168.63.129.16/32"),
        ("169.254.169.254", "cloud metadata service 169.254.169.254/32"),
        ("169.254.1.1", "link-local 169.254.0.0/16"),
        ("172.31.255.255", "private 172.16.0.0/12"),
        ("192.0.0.192", "IETF protocol assignments 192.0.0.0/24"),
        ("192.0.2.1", "documentation 192.0.2.0/24"),
        ("192.168.0.1", "private 192.168.0.0/16"),
        ("198.19.0.1", "benchmarking 198.18.0.0/15"),
        ("203.0.113.9", "documentation 203.0.113.0/24"),
        ("224.0.0.251", "multicast 224.0.0.0/4"),
        ("240.0.0.1", "reserved 240.0.0.0/4"),
        ("255.255.255.255", "broadcast 255.255.255.255/32"),
        ("::", "unspecified ::/128"),
        ("::1", "loopback ::1/128"),
        ("::127.0.0.1", "IPv4-compatible ::/96"),
        ("::ffff:0:127.0.0.1", "IPv4-translated ::ffff:0:0:0/96"),
        ("64:ff9b:1::1", "local NAT64 64:ff9b:1::/48"),
        ("100::1", "discard 100::/64"),
        ("2001::1", "Teredo 2001::/32"),
        ("2001:2::1", "benchmarking 2001:2::/48"),
        ("2001:10::1", "ORCHID 2001:10::/28"),
        ("2001:db8::1", "documentation 2001:db8::/32"),
        ("2002:7f00:1::", "6to4 2002::/16"),
        ("3fff::1", "documentation 3fff::/20"),
        ("5f00::1", "segment routing 5f00::/16"),
        ("fd00:ec2::254", "cloud metadata service fd00:ec2::254/128"),
        ("fd12:3456::1", "unique local fc00::/7"),
        ("fe80::1", "link-local fe80::/10"),
        ("fec0::1", "site-local fec0::/10"),
        ("ff02::1", "multicast ff00::/8"),
        ("4000::1", "not global unicast 4000::/2"),
        ("::ffff:10.0.0.1", "private 10.0.0.0/8"),
        ("64:ff9b::169.254.169.254", "cloud metadata service 169.254.169.254/32"),
    ],
)
def test_a_refused_address_is_refused_by_the_rule_that_says_most(address, rule):
    assert refusal(ipaddress.ip_address(address), STRICT) == rule
    failure = check_addresses("hooks.example.com", ["8.8.8.8", address], STRICT)
    assert failure.kind is ErrorKind.BLOCKED_ADDRESS
    assert failure.message == f"hooks.example.com resolves to {address}: {rule}"


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2001:200::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_a_public_address_is_not_refused(address):
    assert check_addresses("hooks.example.com", [address], STRICT) is None


@given(v4 | v6 | in_refused)
@example(ipaddress.ip_address("192.0.0.8"))
@example(ipaddress.ip_address("64:ff9b:1::"))
def test_whatever_the_standard_library_knows_as_not_global_is_refused(address):
    assume(not carries_ipv4(address))
    special = address.is_multicast or address.is_reserved or address.is_loopback or address.is_link_local
    if not address.is_global or special:
        assert refusal(address, STRICT) is not None


@given(in_refused)
def test_every_address_of_the_table_is_refused(address):
    assume(not carries_ipv4(address))
    assert refusal(address, STRICT) is not None


@given(v6)
def test_of_ipv6_only_global_unicast_and_forms_of_public_ipv4_are_called(address):
    if refusal(address, STRICT) is None:
        assert address in ipaddress.ip_network("2000::/3") or carries_ipv4(address)


@given(v4 | in_refused.filter(lambda address: address.version == 4))
def test_a_mapped_or_translated_address_is_judged_like_the_one_inside(inner):
    allowing = [STRICT, Policy.of(["10.0.0.0/8", "127.0.0.0/8"]), Policy.of(["::/0"]), EVERYTHING]
    for policy in allowing:
        verdict = refusal(inner, policy)
        assert refusal(ipaddress.IPv6Address(f"::ffff:{inner}"), policy) == verdict
        assert refusal(ipaddress.IPv6Address(f"64:ff9b::{inner}"), policy) == verdict
        for literal in (f"[::ffff:{inner}]", f"[64:ff9b::{inner}]"):
            assert (check_url(f"https://{literal}/", policy) is None) is (verdict is None)


@given(in_refused)
def test_networks_that_are_allowed_win_over_the_table(address):
    assert refusal(address, EVERYTHING) is None
    text = f"[{address}]" if address.version == 6 else str(address)
    assert check_url(f"http://{text}:8080/", EVERYTHING) is None


def test_an_allowed_network_allows_nothing_beside_itself():
    policy = Policy.of(["10.1.0.0/16", "fd00:1::/32"])
    assert check_addresses("h", ["10.1.2.3", "fd00:1::5", "8.8.8.8"], policy) is None
    assert check_addresses("h", ["10.2.0.1"], policy).message == "h resolves to 10.2.0.1: private 10.0.0.0/8"
    assert check_addresses("h", ["fd00:2::5"], policy) is not None


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "office", ""])
def test_a_policy_is_not_made_of_what_is_no_network(network):
    with pytest.raises(ValueError, match=r"network|host bits"):
        Policy.of([network])


@given(st.lists(public_v4.map(str), max_size=4), in_refused.map(str), st.data())
def test_one_refused_address_refuses_the_whole_answer(public, refused, data):
    assume(refusal(ipaddress.ip_address(refused), STRICT) is not None)
    place = data.draw(st.integers(0, len(public)))
    failure = check_addresses("h", [*public[:place], refused, *public[place:]], STRICT)
    assert failure.kind is ErrorKind.BLOCKED_ADDRESS
    assert check_addresses("h", public or ["8.8.8.8"], STRICT) is None


def test_a_zone_does_not_hide_an_address():
    assert check_addresses("h", ["fe80::1%eth0"], STRICT).kind is ErrorKind.BLOCKED_ADDRESS
    assert check_addresses("h", ["fe80::1%eth0"], Policy.of(["fe80::/10"])) is None
    assert check_addresses("h", ["::ffff:127.0.0.1%1"], STRICT).kind is ErrorKind.BLOCKED_ADDRESS


def test_what_is_no_address_is_refused_and_no_address_at_all_is_a_failure_of_dns():
    assert check_addresses("h", ["8.8.8.8", "h"], STRICT).kind is ErrorKind.BLOCKED_ADDRESS
    assert check_addresses("h", [], STRICT).kind is ErrorKind.DNS


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/",
        "https://hooks.example.com",
        "HTTPS://Hooks.Example.COM:8443/a/b;c?d=e&f=https://127.0.0.1/@#g",
        "https://hooks.example.com./",
        "https://xn--mnchen-3ya.example/%C3%BC",
        "https://a_b.example-host.com?x",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:443/",
        "https://1.1.1.1.example.com/",
        "https://0x7f.1.example/",
        "https://localhost/",  # a name: what it resolves to is judged then
    ],
)
def test_a_url_that_may_be_tried(url):
    assert check_url(url, STRICT) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "no scheme or no host"),
        ("hooks.example.com/a", "no scheme or no host"),
        ("//hooks.example.com/a", "no scheme or no host"),
        ("https:", "no scheme or no host"),
        ("https:///a", "no scheme or no host"),
        ("https:hooks.example.com", "no scheme or no host"),
        ("https://?a", "no scheme or no host"),
        ("ftp://hooks.example.com/", "scheme ftp"),
        ("file:///etc/passwd", "no scheme or no host"),
        ("gopher://127.0.0.1:6379/_x", "scheme gopher"),
        ("https://user:pass@hooks.example.com/", "credentials"),
        ("https://user@hooks.example.com/", "credentials"),
        ("https://@hooks.example.com/", "credentials"),
        ("https://hooks.example.com\\@127.0.0.1/", "backslash"),
        ("https://127.0.0.1\\.example.com/", "backslash"),
        ("https://hooks.example.com/a b", "space"),
        (" https://hooks.example.com/", "space"),
        ("https://hooks.example.com/\n", "control character"),
        ("https://hooks.example.com/\r\nHost: x", "control character"),
        ("https://hooks.ex\tample.com/", "control character"),
        ("https://hooks.example.com/\0", "control character"),
        ("https://hooks.example.com/\x7f", "control character"),
        ("https://münchen.example/", "outside ASCII"),
        ("https://①②⑦.⓪.⓪.①/", "outside ASCII"),
        ("https://127。0。0。1/", "outside ASCII"),
        ("https://hooks.example.com:0/", "port"),
        ("https://hooks.example.com:65536/", "port"),
        ("https://hooks.example.com:" + "9" * 5000, "port"),
        ("https://hooks.example.com:-1/", "port"),
        ("https://hooks.example.com:http/", "port"),
        ("https://hooks.example.com:/", "port"),
        ("https://hooks.example.com:80:80/", "port"),
        ("https://:443/", "malformed host"),
        ("https://./", "malformed host"),
        ("https://a..b/", "malformed host"),
        ("https://.a/", "malformed host"),
        ("https://-a.example/", "malformed host"),
        ("https://a%2eb.example/", "malformed host"),
        ("https://127.0.0.1%00.example.com/", "malformed host"),
        ("https://a,b.example/", "malformed host"),
        ("https://" + "a" * 64 + ".example/", "malformed host"),
        ("https://" + "a." * 127 + "example/", "malformed host"),
        ("https://[::1/", "malformed host"),
        ("https://::1/", "malformed host"),
        ("https://[::1]x/", "malformed host"),
        ("https://[v1.a]/", "malformed IPv6"),
        ("https://[127.0.0.1]/", "malformed IPv6"),
        ("https://[]/", "malformed IPv6"),
        ("https://1.2.3.4.5/", "malformed IPv4"),
        ("https://256.1.1.1/", "malformed IPv4"),
        ("https://1.1.1.256/", "malformed IPv4"),
        ("https://08.8.8.8/", "malformed IPv4"),
        ("https://4294967296/", "malformed IPv4"),
        ("https://example.0x1g.1/", "malformed IPv4"),
        ("https://134744072/", "write 8.8.8.8"),
        ("https://010.8.8.8/", "write 8.8.8.8"),
        ("https://8.8.8.8./", "write 8.8.8.8"),
    ],
)
def test_a_url_that_is_none_says_why(url, fault):
    for policy in (STRICT, EVERYTHING):
        failure = check_url(url, policy)
        assert failure.kind is ErrorKind.INVALID_URL
        assert fault in failure.message


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0.0.0x1",
        "0177.0.0.1",
        "127.0.0.01",
        "0x7f.1",
        "127.0.0.1.",
        "0xa9fea9fe",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[fd00:ec2::254]",
        "169.254.169.254",
    ],
)
def test_a_refused_address_is_refused_in_every_spelling(host):
    assert kind_of(f"https://{host}:8443/a") is ErrorKind.BLOCKED_ADDRESS
    assert kind_of(f"http://{host}", WITH_HTTP) is ErrorKind.BLOCKED_ADDRESS


def test_http_is_refused_unless_allowed():
    assert kind_of("http://hooks.example.com/") is ErrorKind.BLOCKED_ADDRESS
    assert kind_of("HTTP://hooks.example.com/") is ErrorKind.BLOCKED_ADDRESS
    assert "allow_http" in check_url("http://hooks.example.com/", STRICT).message
    assert kind_of("http://hooks.example.com/", WITH_HTTP) is None


@given(v4, st.data())
def test_an_ipv4_address_is_understood_as_the_c_library_understands_it(address, data):
    number = int(address)
    parts = data.draw(st.integers(1, 4))
    fields = [number >> 8 * (3 - place) & 255 for place in range(parts - 1)]
    fields.append(number & (1 << 8 * (5 - parts)) - 1)
    host = ".".join(data.draw(st.sampled_from(["{}", "0{:o}", "0x{:x}", "0X{:X}"])).format(f) for f in fields)
    assert socket.inet_aton(host) == address.packed
    rule = refusal(address, STRICT)
    failure = check_url(f"https://{host}/", STRICT)
    if rule is not None:
        assert failure.message == f"{host} is refused: {rule}"
    elif host != str(address):
        assert failure.message.endswith(f"write {address}")
    else:
        assert failure is None


@given(st.text("0123456789xXabcdef.", min_size=1, max_size=16))
def test_no_host_that_the_c_library_takes_for_a_refused_address_may_be_tried(host):
    try:
        address = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return
    if refusal(address, STRICT) is not None:
        assert check_url(f"https://{host}/", STRICT) is not None


@given(
    st.sampled_from(["https://", "http://", "https:", "//", ""]),
    st.text("ab1.:@[]%-_\\/?# \t\0é", max_size=12),
    st.sampled_from(["", "127.0.0.1", "example.com", "[::1]", "8.8.8.8"]),
    st.text("a1.:@[]%/?#\\\n", max_size=8),
)
def test_other_parsers_see_the_same_host_in_a_url_that_may_be_tried(start, before, host, after):
    url = start + before + host + after
    if check_url(url, WITH_HTTP) is None:
        parts = urlsplit(url)
        assert parts.username is None
        seen = {parts.hostname, URL(url).host, URL(url, encoded=True).host}
        assert len(seen) == 1
        judged = seen.pop()
        bracketed = f"[{judged}]" if ":" in judged else judged
        assert check_url(f"https://{bracketed}/", WITH_HTTP) is None


@given(st.text())
@example("https://[" + ":" * 1000 + "]")
@example("https://" + "0x" * 5000)
def test_no_text_is_an_error(url):
    failure = check_url(url, STRICT)
    assert failure is None or failure.kind in {ErrorKind.INVALID_URL, ErrorKind.BLOCKED_ADDRESS}


@pytest.mark.parametrize(
    "url", ["https://u:hush@h/", "https://h:hush/", "http://h/hush", "https://10.0.0.1/?hush"]
)
def test_no_message_shows_more_of_a_url_than_its_host(url):
    assert "hush" not in check_url(url, STRICT).message


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:8060", True),
        ("127.9.9.9:1", True),
        ("[::1]:8060", True),
        ("localhost:8060", True),
        ("0.0.0.0:8060", False),
        ("[::]:8060", False),
        ("192.168.0.1:8060", False),
        ("localhost.example.com:8060", False),
    ],
)
def test_only_what_this_machine_alone_can_reach_is_loopback(listen: str, expected: bool):
    assert is_loopback(listen) is expected

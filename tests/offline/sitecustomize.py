"""No network while the tests run: Python imports this file at start-up when it is on PYTHONPATH.

The root conftest.py puts it there, so that notebook kernels and the programs that tests start
refuse, like the tests themselves, any name or address that is not this machine. An audit hook sees
every socket made by Python code, whatever the library; it cannot be removed. Sockets opened in C
(Jupyter's own messages, the browser) do not pass here.
"""

import errno
import ipaddress
import socket
import sys

CONNECTIONS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def is_this_machine(host: object) -> bool:
    """True for no name at all, this machine's name, and loopback or unspecified addresses."""
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_network(event: str, arguments: tuple) -> None:
    """Audit hook: an OSError that names the host, before anything leaves the machine."""
    if event in CONNECTIONS:
        address = arguments[1]
        host = (
            address[0] if isinstance(address, tuple) else None
        )  # a path: a Unix socket
    elif event in LOOKUPS:
        host = arguments[0]
    else:
        return
    if not is_this_machine(host):
        raise OSError(
            errno.ENETUNREACH, f"the tests run without network: {host!r} was refused"
        )


sys.addaudithook(refuse_network)

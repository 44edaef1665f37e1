"""The tests run without network: here, in the programs they start, and in notebook kernels."""

import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import HTTPServer, SimpleHTTPRequestHandler

import nbformat
import pytest
from nbclient import NotebookClient

REFUSED = "the tests run without network"
PUBLIC = "192.0.2.1"  # reserved for documentation: nothing answers there


def udp():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection((PUBLIC, 80), timeout=1),
        lambda: socket.getaddrinfo("2001:db8::1", 443),
        lambda: udp().sendto(b"x", (PUBLIC, 53)),
        lambda: udp().sendmsg([b"x"], [], 0, (PUBLIC, 53)),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.getaddrinfo(b"example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: urllib.request.urlopen("https://example.org", timeout=1),
    ],
)
def test_refuses_other_machines(attempt):
    with pytest.raises((OSError, urllib.error.URLError), match=REFUSED):
        attempt()


def test_leaves_this_machine_reachable():
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    request = urllib.request.Request(
        f"http://localhost:{server.server_port}/", method="HEAD"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200
    server.server_close()


def test_leaves_unix_sockets_alone():
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"x")
        assert second.recv(1) == b"x"


def test_covers_the_programs_that_tests_start():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert REFUSED in result.stderr


def test_covers_notebook_kernels(tmp_path):
    code = (
        "import urllib.request\n"
        "try:\n"
        "    urllib.request.urlopen('https://example.org', timeout=1)\n"
        "except OSError as error:\n"
        "    print(error)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert REFUSED in notebook.cells[0].outputs[0].text

"""A small HTTP server on 127.0.0.1 that serves files well, badly or not at all."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECES = 8


class FileServer:
    """Serve `files` (path without the first slash -> bytes) as `mode` says, until closed.

    mode: "right"; "wrong" (same length, other bytes); "cut" (half of the length announced);
        "silent cut" (half, no length announced); "stall" (half, then nothing); "missing" (404);
        "slow" (everything, in pieces).
    requests: the paths asked for, in order.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.mode = "right"
        self.requests: list[str] = []
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/"
        threading.Thread(
            target=self._http.serve_forever, args=(0.02,), daemon=True
        ).start()

    def _answer(self, handler):
        path = handler.path.lstrip("/")
        self.requests.append(path)
        body = self.files.get(path)
        if body is None or self.mode == "missing":
            handler.send_error(404)
            return
        handler.send_response(200)
        if self.mode != "silent cut":
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.mode == "wrong":
            body = bytes(255 - byte for byte in body)
        if self.mode in ("cut", "silent cut", "stall"):
            body = body[: len(body) // 2]
        pieces = PIECES if self.mode == "slow" else 1
        for i in range(pieces):
            handler.wfile.write(
                body[len(body) * i // pieces : len(body) * (i + 1) // pieces]
            )
            handler.wfile.flush()
            if pieces > 1:
                time.sleep(0.05)
        if self.mode == "stall":
            self._closing.wait(10)

    def close(self):
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

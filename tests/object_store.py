"""An S3 server on this machine, and a proxy before it that counts, cuts and refuses."""

import socket
import threading
import time

REFUSAL = (
    "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message><Resource>/</Resource>"
    "<RequestId>0</RequestId></Error>"
)


class Proxy:
    """TCP proxy before an HTTP server. Each connection gets the next of the faults that are left, or none.

    A fault is a number of bytes after which an answer is cut, "upload" to cut a request, "silent" for a server that
    accepts the connection and never answers, or a status of HTTP. ``hold_after`` is a number of uploaded bytes after
    which no request is forwarded.
    """

    def __init__(self, host, port):
        self._target = (host, port)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.sent = self.received = 0
        self.hold_after = None
        self.faults = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._socket.close()

    def is_holding(self):
        return self.hold_after is not None and self.received > self.hold_after

    def _accept(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            fault = self.faults.pop(0) if self.faults else None
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client, fault):
        if fault == "silent":
            while client.recv(1 << 16):
                pass
            client.close()
            return
        if isinstance(fault, str) and fault != "upload":
            is_head = client.recv(1 << 16).startswith(b"HEAD")
            body = REFUSAL.format(code=fault.split()[-1]).encode()
            head = f"HTTP/1.1 {fault}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
            client.sendall(f"{head}Connection: close\r\n\r\n".encode() + (b"" if is_head else body))
            client.close()
            return
        server = socket.create_connection(self._target)
        limit = 4096 if fault == "upload" else None
        threading.Thread(target=self._copy, args=(client, server, limit, False), daemon=True).start()
        self._copy(server, client, fault if isinstance(fault, int) else None, True)

    def _copy(self, source, target, limit, counts):
        try:
            while (limit is None or limit > 0) and (data := source.recv(1 << 16)):
                data = data[:limit]
                limit = None if limit is None else limit - len(data)
                self.sent += counts * len(data)
                self.received += (not counts) * len(data)
                while not counts and self.is_holding():
                    time.sleep(0.01)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

"""The tests put this on PYTHONPATH, so every Python process that they start (kernels, command lines) is offline too.

Connections to other machines raise; loopback and unix sockets, which Jupyter needs, work.
"""

import ipaddress
import socket


def is_local(host: str) -> bool:
    """Whether an address names this machine."""
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _guarded(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise RuntimeError(f"network access in a test: {address}")
        return connect(self, address)

    return guarded


for _name in ("connect", "connect_ex"):
    setattr(socket.socket, _name, _guarded(getattr(socket.socket, _name)))

"""AWS KMS and STS as moto plays them, on a free port of loopback, until standard input ends.

Prints one line when it is ready: listening ADDRESS
"""

import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"listening 127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()

"""AWS KMS and STS as moto plays them, on a free port of loopback, until standard input ends.

Prints one line when it is ready: listening ADDRESS
"""

import sys
import threading
import urllib.request

from moto.kms import utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

# The ids that moto gives to multi-Region keys, of 40 characters, do not fit into the ciphertexts that it makes with them.
utils.CIPHERTEXT_HEADER_FORMAT = f">41p{utils.IV_LEN}s{utils.TAG_LEN}s"
utils.HEADER_LEN = 41 + utils.IV_LEN + utils.TAG_LEN

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()

# The first request of a service loads it, which takes seconds; no test waits for that.
headers = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20200101/eu-central-1/kms/aws4_request, SignedHeaders=host, Signature=00",
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "TrentService.ListKeys",
}
address = f"http://127.0.0.1:{server.server_port}/"
urllib.request.urlopen(urllib.request.Request(address, data=b"{}", headers=headers)).read()

print(f"listening 127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()

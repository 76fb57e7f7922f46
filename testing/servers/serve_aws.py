"""AWS KMS and STS as moto plays them, on a free port of loopback, until standard input ends.

Prints one line when it is ready: listening ADDRESS
"""

import sys
import threading
import urllib.request

from moto.kms import utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

# moto leaves 36 bytes of a ciphertext for the id of its key, but gives 40 to those of multi-Region keys.
ID_LEN = 40
write, read = utils._serialize_ciphertext_blob, utils._deserialize_ciphertext_blob


def write_whole(ciphertext):
    return ciphertext.key_id.encode() + write(ciphertext)[utils.KEY_ID_LEN :]


def read_whole(ciphertext_blob):
    if not ciphertext_blob.startswith(b"mrk-"):
        return read(ciphertext_blob)
    shortened = read(bytes(utils.KEY_ID_LEN) + ciphertext_blob[ID_LEN:])
    return shortened._replace(key_id=ciphertext_blob[:ID_LEN].decode())


utils._serialize_ciphertext_blob, utils._deserialize_ciphertext_blob = write_whole, read_whole

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

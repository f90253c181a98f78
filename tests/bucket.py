"""A stand-in for a bucket of Google Cloud Storage on this machine, as strict as the real one.

It holds objects that are written whole. There are no folders, no renames, no locks, nothing is
appended, and a list may not show yet what was just written. Orbax's arrays reach it by HTTP
(TensorStore), all other files through fsspec.
"""

import io
import itertools
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
from fsspec.spec import AbstractFileSystem

from swav_jax.runtime import storage


class Objects:
    """Contents, generation and age of objects by name, `bucket/path`."""

    def __init__(self):
        self.kept, self.lock, self.generations = {}, threading.Lock(), itertools.count(1)
        self.lag = 0.0  # seconds after which lists of folders show a new object

    def put(self, name, data, only_if=None):
        """Writes an object whole, or returns None if its generation (0: none) is another one."""
        with self.lock:
            old = self.kept.get(name, (b"", 0, 0.0))
            if only_if is not None and old[1] != only_if:
                return None
            shown = old[2] if old[1] else time.monotonic() + self.lag
            self.kept[name] = (bytes(data), next(self.generations), shown)
            return self.kept[name][1]

    def listed(self, prefix, as_of=float("inf")):
        with self.lock:
            return {
                name: data
                for name, (data, _, shown) in sorted(self.kept.items())
                if name.startswith(prefix) and shown <= as_of
            }


OBJECTS = Objects()


class Bucket(AbstractFileSystem):
    """What fsspec's packages for buckets offer, and no more."""

    protocol = ("gs", "gcs", "s3")
    cachable = False

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        found = {}
        for name, data in OBJECTS.listed(f"{path}/", time.monotonic()).items():
            first, _, rest = name.removeprefix(f"{path}/").partition("/")
            kind = {"type": "directory", "size": 0} if rest else {"type": "file", "size": len(data)}
            found[first] = {"name": f"{path}/{first}", **kind}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else [entry["name"] for entry in found.values()]

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        if path in OBJECTS.kept:
            return {"name": path, "type": "file", "size": len(OBJECTS.kept[path][0])}
        if OBJECTS.listed(f"{path}/"):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def _open(self, path, mode="rb", **kwargs):
        if mode == "rb":
            if path not in OBJECTS.kept:
                raise FileNotFoundError(path)
            return io.BytesIO(OBJECTS.kept[path][0])
        assert mode == "wb", f"a bucket has no mode {mode}"
        return _Written(path)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        only_if = 0 if mode == "create" else None
        if OBJECTS.put(self._strip_protocol(path), value, only_if) is None:
            raise FileExistsError(path)

    def mkdir(self, path, **kwargs):
        pass

    makedirs = mkdir

    def rm_file(self, path):
        if OBJECTS.kept.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    _rm = rm_file

    def rm(self, path, recursive=False, maxdepth=None):
        path = self._strip_protocol(path)
        for name in [path] if path in OBJECTS.kept else OBJECTS.listed(f"{path}/"):
            self.rm_file(name)

    def mv(self, *args, **kwargs):
        raise AssertionError("a bucket renames nothing")

    rename = mv


class _Written(io.BytesIO):
    """An object that is there when the file is closed."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def close(self):
        if not self.closed:
            OBJECTS.put(self._path, self.getvalue())
        super().close()


class _Storage(BaseHTTPRequestHandler):
    """The part of the JSON API that TensorStore calls."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name, asked = self._asked()
        if name is None:
            bucket = urlsplit(self.path).path.split("/")[4]
            names = OBJECTS.listed(f"{bucket}/{asked.get('prefix', '')}")
            items = [{"name": name.removeprefix(f"{bucket}/")} for name in names]
            return self._answer(200, json.dumps({"items": items}).encode())
        if name not in OBJECTS.kept:
            return self._answer(404)
        data, generation, _ = OBJECTS.kept[name]
        if asked.get("ifGenerationNotMatch") == str(generation):
            return self._answer(304)
        if asked.get("alt") != "media":
            return self._answer(200, _metadata(name, data, generation))
        first, last = 0, len(data) - 1
        if part := self.headers.get("Range"):
            first, _, end = part.removeprefix("bytes=").partition("-")
            first, last = int(first), int(end or last)
        headers = {
            "x-goog-generation": generation,
            "Content-Range": f"bytes {first}-{last}/{len(data)}",
        }
        return self._answer(206 if part else 200, data[first : last + 1], headers)

    def do_POST(self):
        _, asked = self._asked()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        name = f"{urlsplit(self.path).path.split('/')[5]}/{asked['name']}"
        only_if = asked.get("ifGenerationMatch")
        generation = OBJECTS.put(name, data, None if only_if is None else int(only_if))
        if generation is None:
            return self._answer(412)
        return self._answer(200, _metadata(name, data, generation))

    def do_DELETE(self):
        name, _ = self._asked()
        return self._answer(204 if OBJECTS.kept.pop(name, None) else 404)

    def _asked(self):
        url = urlsplit(self.path)
        parts = url.path.split("/")  # /storage/v1/b/BUCKET/o/NAME
        name = (
            f"{parts[4]}/{unquote(parts[6])}" if len(parts) > 6 and parts[1] != "upload" else None
        )
        return name, {key: values[0] for key, values in parse_qs(url.query).items()}

    def _answer(self, status, data=b"", headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def _metadata(name, data, generation):
    bucket, _, name = name.partition("/")
    found = {"bucket": bucket, "name": name, "size": str(len(data)), "generation": str(generation)}
    return json.dumps(found).encode()


@contextmanager
def served(patch, lag=0.0):
    """Serves an empty bucket to this process at gs:// and s3://.

    Args:
        patch: pytest's monkeypatch.
        lag: seconds after which lists show a new object. Orbax's own support of gs:// needs lists
            that lag behind in nothing, as Google's are.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Storage)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{server.server_port}")
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "anyone")
    patch.setattr(storage, "find_spec", lambda package: True)
    for protocol in Bucket.protocol:
        fsspec.register_implementation(protocol, Bucket, clobber=True)
    OBJECTS.lag = lag
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        OBJECTS.kept.clear()

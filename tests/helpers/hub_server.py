"""A hub on loopback for tests: the endpoints that huggingface_hub calls for pull and push, with faults on demand."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_secret"


class HubServer:
    """Repositories in memory. `fault(handler, kind, path)` may answer a request itself and return True.

    `kind` is info, head, get, cdn, put, post or other; `requests` lists the ones that came.
    """

    def __init__(self):
        self.commits, self.refs, self.private, self.objects, self.requests = {}, {}, set(), {}, []
        self.listing = None  # bytes in the place of an owner's models
        self.slow = 0.0  # seconds before a listing or an answer to a POST
        self.opinion = 200, {"errors": [], "warnings": []}  # on a card
        self.fault = lambda handler, kind, path: False
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.handle_error = lambda *_: None  # of clients that went away
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.cdn = f"http://localhost:{self.http.server_port}/cdn"  # another host, as a hub's large files have

    def commit(self, repo, files, revision="main"):
        """Adds a commit of files (name -> bytes, or a zoo entry's folder) and moves a branch to it."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        digest = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        self.commits.setdefault(repo, {})[digest] = files
        self.refs.setdefault(repo, {})[revision] = digest
        return digest

    def files(self, repo, revision):
        return self.commits[repo][self.refs[repo].get(revision, revision)]

    def count(self, kind):
        return sum(each == kind for each, _ in self.requests)


@contextlib.contextmanager
def running():
    server = HubServer()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def mode(file):
    """Where a hub wants a file: weights in its store of large files, as the real one does."""
    return "lfs" if file["path"].endswith(".safetensors") else "regular"


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status, body=b"", **headers):
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            self.send_response(status)
            for name, value in ({"Content_Length": len(body)} | headers).items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status, code=None):
            self.reply(status, {"error": "refused"}, **({"X_Error_Code": code} if code else {}))

        def seen(self, kind, path):
            hub.requests.append((kind, path))
            return hub.fault(self, kind, path)

        def find(self, repo, revision):
            """The commit of a revision, or None if the request was refused."""
            authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if repo not in hub.refs or (repo in hub.private and not authorised):
                return self.refuse(401 if not authorised else 404, "RepoNotFound")
            commit = hub.refs[repo].get(revision, revision)
            return commit if commit in hub.commits[repo] else self.refuse(404, "RevisionNotFound")

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            url = urlsplit(self.path)
            path = unquote(url.path)
            if path == "/api/models":
                time.sleep(hub.slow)
            if path == "/api/models" and hub.listing is not None:
                return self.reply(200, hub.listing)
            if path == "/api/models":
                return self.models(parse_qs(url.query)["author"][0])
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                return None if self.seen("info", path) else self.info(match[1], match[2] or "main")
            if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                if self.seen("head" if self.command == "HEAD" else "get", match[3]):
                    return None
                return self.resolve(*match.groups())
            if match := re.fullmatch(r"/cdn/([0-9a-f]+)", path):
                if self.command == "GET" and self.seen("cdn", match[1]):
                    return None
                return self.serve(hub.objects[match[1]], ETag=f'"{match[1]}"')
            return None if self.seen("other", path) else self.refuse(404)

        def models(self, author):
            found = []
            for repo, refs in hub.refs.items():
                front = hub.commits[repo][refs["main"]]["README.md"].decode().split("---\n")[1]
                if repo.startswith(f"{author}/"):
                    found.append({"id": repo, "sha": refs["main"], "cardData": yaml.safe_load(front)})
            self.reply(200, found)

        def info(self, repo, revision):
            if commit := self.find(repo, revision):
                files = hub.commits[repo][commit]
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                self.reply(200, {"id": repo, "sha": commit, "siblings": siblings})

        def resolve(self, repo, revision, name):
            if not (commit := self.find(repo, revision)):
                return
            data = hub.commits[repo][commit].get(name)
            if data is None:
                self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
                return
            digest = hashlib.sha256(data).hexdigest()
            facts = {"X_Repo_Commit": commit, "X_Linked_Etag": f'"{digest}"', "X_Linked_Size": len(data)}
            if name.endswith(".safetensors"):  # as a hub sends large files elsewhere
                hub.objects[digest] = data
                self.reply(302, **facts, Location=f"{hub.cdn}/{digest}")
            else:
                self.serve(data, ETag=f'"{digest}"', **facts)

        def serve(self, data, **headers):
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not start:
                return self.reply(200, data, **headers)
            first = int(start[1])
            headers["Content_Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self.reply(206, data[first:], **headers)

        def body(self):
            return self.rfile.read(int(self.headers["Content-Length"]))

        def do_POST(self):
            path, body = urlsplit(self.path).path, self.body()
            if self.seen("post", path):
                return None
            time.sleep(hub.slow)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and path != "/api/validate-yaml":
                return self.refuse(401)
            if path == "/api/validate-yaml":
                return self.reply(hub.opinion[0], hub.opinion[1])
            if path == "/api/repos/create":
                return self.create(json.loads(body))
            if path.endswith(".git/info/lfs/objects/batch"):
                return self.batch(json.loads(body))
            repo, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
            return self.preupload(json.loads(body)) if what == "preupload" else self.receive(repo, body)

        def create(self, asked):
            repo = f"{asked['organization']}/{asked['name']}"
            hub.commits.setdefault(repo, {})
            hub.refs.setdefault(repo, {})
            if asked.get("visibility") == "private":
                hub.private.add(repo)
            self.reply(200, {"url": f"{hub.url}/{repo}"})

        def preupload(self, asked):
            modes = [{"path": file["path"], "shouldIgnore": False, "uploadMode": mode(file)} for file in asked["files"]]
            self.reply(200, {"files": modes})

        def batch(self, asked):
            """Tells where large files go, but for those that are there."""
            objects = [{"oid": each["oid"], "size": each["size"]} for each in asked["objects"]]
            for each in objects:
                if each["oid"] not in hub.objects:
                    each["actions"] = {"upload": {"href": f"{hub.cdn}/{each['oid']}", "header": {}}}
            self.reply(200, {"transfer": "basic", "objects": objects})

        def do_PUT(self):
            oid, body = urlsplit(self.path).path.removeprefix("/cdn/"), self.body()
            if self.seen("put", oid):
                return None
            if hashlib.sha256(body).hexdigest() != oid:
                return self.refuse(400)
            hub.objects[oid] = body
            return self.reply(200)

        def receive(self, repo, body):
            head = hub.refs[repo].get("main")
            files = dict(hub.commits[repo][head]) if head else {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if value.get("parentCommit", head) != head:
                    return self.refuse(412)
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            commit = hub.commit(repo, files)
            return self.reply(200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit})

    return Handler

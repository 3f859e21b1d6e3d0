"""A Hugging Face hub on a free port that holds one data set: the part of its HTTP interface that `datasets` uses."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

REVISION = "0123456789abcdef0123456789abcdef01234567"


@asynccontextmanager
async def fake_hub(name: str, files: dict[str, bytes], asked: list[str]) -> AsyncIterator[str]:
    """Serves `files` (path in the repository → bytes) as the data set `name`. Adds each request's path to `asked`."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        path = request.path.removeprefix(f"/api/datasets/{name}")
        if path == request.path:
            return _file(request)
        if path.startswith("/revision/"):
            return web.json_response({"id": name, "sha": REVISION, "siblings": [{"rfilename": file} for file in files]})
        if path.startswith("/paths-info/"):
            wanted = (await request.post()).getall("paths")
            return web.json_response([_entry(file) for file in files if file in wanted])
        if path.startswith("/tree/"):
            return web.json_response(_folder(path.removeprefix(f"/tree/{REVISION}").strip("/")))
        return web.json_response({"error": "not found"}, status=404)

    def _entry(file: str) -> dict[str, Any]:
        return {"type": "file", "path": file, "size": len(files[file]), "oid": hashlib.sha256(files[file]).hexdigest()}

    def _folder(folder: str) -> list[dict[str, Any]]:
        """The files and folders of a folder, one level deep."""
        inside = f"{folder}/" if folder else ""
        parts = {file: file[len(inside) :].split("/") for file in files if file.startswith(inside)}
        folders = {inside + part[0] for part in parts.values() if len(part) > 1}
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]
        return listed + [_entry(file) for file, part in parts.items() if len(part) == 1]

    def _file(request: web.Request) -> web.Response:
        head, _, file = request.path.partition("/resolve/")
        file = file.partition("/")[2]
        if head != f"/datasets/{name}" or file not in files:
            return web.json_response({"error": "not found"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(files[file]).hexdigest()
        return web.Response(body=files[file], headers={"ETag": f'"{etag}"', "X-Repo-Commit": REVISION})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

"""The lab's protocol, part 1, on asyncio and websockets, as the user's guide describes it."""

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from http import HTTPStatus

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

CHAT_INTERVAL_S = int(sys.argv[1]) / 1000
NOTICE_LIMIT = 500
NAME_MAX, TEXT_MAX = 50, 500
METRICS = ("temperature", "stock", "cpu")

room = set()
subscriptions = {}


def now_ms():
    return time.time_ns() // 1_000_000


def encode(message):
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def system(text, **more):
    return encode({"type": "system", "text": text, "ts": now_ms(), **more})


def error(text):
    return encode({"type": "error", "text": text, "ts": now_ms()})


def parse(raw, kind):
    """The message, or the error that answers it."""
    try:
        message = json.loads(raw)
    except ValueError:
        return None, error("Invalid JSON format")
    if not isinstance(message, dict) or message.get("type") != kind:
        return None, error("Invalid message type")
    return message, None


def check_chat(raw):
    message, refusal = parse(raw, "chat")
    if refusal:
        return None, refusal
    name, text = message.get("name", ""), message.get("text", "")
    if not isinstance(name, str) or not isinstance(text, str):
        return None, error("Invalid message type")
    name, text = name.strip(), text.strip()
    if not name or not text:
        return None, error("Tên và nội dung không được để trống")
    if len(text) > TEXT_MAX:
        return None, error("Tin nhắn quá dài (tối đa 500 ký tự)")
    return (name[:NAME_MAX], text), None


def notice(text):
    if len(room) <= NOTICE_LIMIT:
        broadcast(room, system(text, online_count=len(room)))


async def chat(websocket):
    notice_count = len(room) + 1
    if notice_count <= NOTICE_LIMIT:
        broadcast(room, system("Một người dùng mới đã tham gia chat", online_count=notice_count))
    room.add(websocket)
    await websocket.send(
        system(f"Chào mừng đến chat room! Hiện có {len(room)} người online.", online_count=len(room))
    )
    accepted_at = -CHAT_INTERVAL_S
    try:
        async for raw in websocket:
            said, refusal = check_chat(raw)
            now = time.monotonic()
            if refusal is None and now - accepted_at < CHAT_INTERVAL_S:
                refusal = error("Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây.")
            if refusal is not None:
                await websocket.send(refusal)
                continue
            accepted_at = now
            name, text = said
            broadcast(room, encode({"type": "chat", "name": name, "text": text, "ts": now_ms()}))
    finally:
        room.discard(websocket)
        notice("Một người dùng đã rời khỏi chat")


async def dashboard(websocket):
    subscriptions[websocket] = list(METRICS)
    await websocket.send(
        system("Kết nối dashboard thành công. Đang nhận dữ liệu realtime...", subscribed=list(METRICS))
    )
    try:
        async for raw in websocket:
            message, refusal = parse(raw, "subscribe")
            if refusal:
                await websocket.send(refusal)
                continue
            wanted = [metric for metric in dict.fromkeys(message.get("metrics", [])) if metric in METRICS]
            subscriptions[websocket] = wanted
            await websocket.send(system(f"Đã subscribe: {', '.join(wanted)}", subscribed=wanted))
    finally:
        del subscriptions[websocket]


async def tick():
    values = {"temperature": 25.0, "stock": 100.0, "cpu": 30.0}
    while True:
        await asyncio.sleep(1)
        values["temperature"] = min(35, max(20, values["temperature"] + random.uniform(-1.5, 1.5)))
        values["stock"] = min(200, max(50, values["stock"] * random.uniform(0.98, 1.02)))
        values["cpu"] = min(90, max(10, values["cpu"] + random.uniform(-10, 10)))
        ts = now_ms()
        for metric in METRICS:
            message = {"type": "metric", "metric": metric, "value": round(values[metric], 2), "ts": ts}
            broadcast([client for client, wanted in subscriptions.items() if metric in wanted], encode(message))


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


ENDPOINTS = {"/ws/chat": chat, "/ws/dashboard": dashboard, "/ws/echo": echo}


def refuse_unknown(connection, request):
    if request.path not in ENDPOINTS:
        return connection.respond(HTTPStatus.NOT_FOUND, "no such endpoint\n")
    return None


async def serve_client(websocket):
    with contextlib.suppress(ConnectionClosed):
        await ENDPOINTS[websocket.request.path](websocket)


async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    options = {"process_request": refuse_unknown, "compression": None, "ping_interval": 20, "ping_timeout": 10}
    async with serve(serve_client, "127.0.0.1", 0, backlog=4096, **options) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on http://127.0.0.1:{port}", flush=True)
        ticker = asyncio.create_task(tick())
        await stopped.wait()
        ticker.cancel()
        server.close(close_connections=True)


asyncio.run(main())

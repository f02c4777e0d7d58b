"""A FastAPI application that passes the answer of a model on to a browser; its threads change with every event."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from models import HEARTBEAT, client_of

app = FastAPI()


@app.get("/answer")
def answer(port: str) -> StreamingResponse:
    stream = client_of(port).stream("Hi")
    return StreamingResponse(stream.sse(HEARTBEAT), media_type="text/event-stream")

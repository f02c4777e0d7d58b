"""A Flask application that passes the answer of a model on to a browser."""

from flask import Flask, Response, request
from models import HEARTBEAT, client_of

app = Flask(__name__)


@app.get("/answer")
def answer():
    stream = client_of(request.args["port"]).stream("Hi")
    return Response(stream.sse(HEARTBEAT), mimetype="text/event-stream")

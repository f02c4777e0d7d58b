"""Uses the page docs/howto/streamlit.md as a browser does: ``streamlit_page.py PORT QUESTION…``.

It asks one question after the other, and prints the texts and the errors that the page shows after each. After the
question ``stop`` it presses Stop as soon as there is a text.
"""

import json
import sys

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

port, *questions = sys.argv[1:]
SECONDS = 30


class Page:
    """What the page shows: its elements, by their place."""

    def __init__(self, socket):
        self.socket = socket
        self.elements = {}
        self.seen = []  # every text, also those that another one has replaced

    def run(self, question=None, stop=False):
        """Run the script, with a question if there is one, until it ends."""
        state = ClientState()
        if question is not None:
            entered = next(each.chat_input for each in self.elements.values() if each.HasField("chat_input"))
            widget = WidgetState(id=entered.id)
            widget.chat_input_value.data = question
            state.widget_states.widgets.append(widget)
        self.socket.send(BackMsg(rerun_script=state).SerializeToString())
        self.elements, self.seen = {}, []
        while True:
            message = ForwardMsg.FromString(self.socket.recv(SECONDS))
            if message.HasField("script_finished"):
                return
            if message.HasField("delta") and message.delta.HasField("new_element"):
                element = message.delta.new_element
                self.elements[tuple(message.metadata.delta_path)] = element
                if element.HasField("markdown"):
                    self.seen.append(element.markdown.body)
                    if stop and "one" in element.markdown.body:
                        self.socket.send(BackMsg(stop_script=True).SerializeToString())
                        stop = False

    def texts(self, kind="markdown"):
        return [getattr(element, kind).body for _, element in sorted(self.elements.items()) if element.HasField(kind)]


with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:
    page = Page(socket)
    page.run()
    shown = []
    for question in questions:
        page.run(question, stop=question == "stop")
        shown.append({"texts": page.texts(), "errors": page.texts("alert"), "seen": page.seen})
print(json.dumps({"shown": shown}))

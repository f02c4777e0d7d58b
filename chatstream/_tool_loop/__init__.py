"""A conversation with tools: the turns of the model, and between them its calls and their outputs."""

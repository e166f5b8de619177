"""Handlers that keep requests from call to call: a rolling batch, a sum, adapters, sessions."""

from djl_python import Input, Output, SessionManager
from djl_python.encode_decode import decode

rows = []
adapters = {}
total = None


class Row:
    """A request of the rolling batch: gives so many words, one in each step."""

    def __init__(self, text: str, length: int):
        self.text, self.length, self.sent = text, length, 0

    def next(self) -> str:
        self.sent += 1
        return f" token_{self.text}_{self.sent}"


def handle(inputs: Input):
    if inputs.is_empty():
        return None
    if inputs.get_property("reset_rollingbatch"):
        rows.clear()
    outputs = Output()
    try:
        for i, item in enumerate(inputs.get_batches()):
            body = decode(item, item.get_property("Content-Type"))
            if i >= len(rows):
                rows.append(Row(body["inputs"], body["parameters"]["max_length"]))
        for i, row in enumerate(rows):
            step = {"data": row.next(), "last": row.sent >= row.length}
            outputs.add(Output.binary_encode(step), batch_index=i)
        rows[:] = [row for row in rows if row.sent < row.length]
    except Exception as e:
        outputs = Output().error(str(e))
    return outputs


def accumulate(inputs: Input):
    global total
    array = inputs.get_as_numpy()[0]
    total = array if total is None else total + array
    return Output().add_as_numpy([total])


def register_adapter(inputs: Input):
    name = inputs.get_property("name")
    if inputs.contains_key("error"):
        raise ValueError(f"Failed to register adapter: {name}")
    adapters[name] = inputs
    return Output(message=f"Adapter {name} registered")


def unregister_adapter(inputs: Input):
    name = inputs.get_property("name")
    if name not in adapters:
        raise ValueError(f"Adapter {name} not registered.")
    del adapters[name]
    return Output(message=f"Adapter {name} unregistered")


def adapted(inputs: Input):
    outputs = Output()
    for i, item in enumerate(inputs.get_batches()):
        text = item.get_as_string()
        if item.contains_key("adapter"):
            name = item.get_as_string("adapter")
            text = (name if name in adapters else "dyn" + name) + text
        outputs.add(text, key="data", batch_index=i)
    return outputs


def session(inputs: Input):
    """Everything that a session does; its id is random and not told."""
    manager = SessionManager({"sessions_path": inputs.get_as_string("path")})
    made = manager.create_session()
    array = made.get_as_numpy("model_state", shape=(2, 3), create=True)
    array.fill(1)
    made.put("metadata", {"a": 1})
    again = manager.get_session(made.session_id)
    told = {
        "same": again is made,
        "none": [manager.get_session(""), manager.get_session("NEW_SESSION")],
        "metadata": again.get("metadata"),
        "default": again.get("nothing", "d"),
        "sum": float(again.get_as_numpy("model_state", shape=(2, 3)).sum()),
        "id": len(made.session_id),
    }
    manager.close_session(made.session_id)
    for wrong in (made.session_id, None):
        try:
            manager.close_session(wrong)
        except ValueError as e:
            told[f"closed {wrong is None}"] = str(e).replace(made.session_id, "ID")
    return Output().add_as_json(told)

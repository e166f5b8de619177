"""Content by its Content-Type: from a request to values, and from values to an answer."""

import csv
from io import StringIO

from .inputs import Input
from .outputs import Output

_CSV_HEADERS = ("question", "context", "inputs")


def decode_csv(inputs: Input, require_headers: bool = True):
    """Rows under names, or with `require_headers=False` an array of numbers."""
    text = inputs.get_as_string()
    if not require_headers:
        import numpy as np

        result = np.genfromtxt(StringIO(text), delimiter=",")
        if np.isnan(result).any():
            raise ValueError(
                "CSV contains non-numeric data. Please provide numeric data only.")
        return result
    first = text.splitlines()[0].lower() if text else ""
    if not any(header in first for header in _CSV_HEADERS):
        raise ValueError(
            "You need to provide the correct CSV with Header columns to use it with the inference "
            "toolkit default handler.")
    rows = list(csv.DictReader(StringIO(text)))
    if rows and "inputs" in rows[0]:
        return {"inputs": [row["inputs"] for row in rows]}
    return {"inputs": rows}


def encode_csv(content) -> str:
    """A list of dictionaries as rows under their names."""
    rows = content if isinstance(content, list) else list(content)
    stream = StringIO()
    writer = csv.DictWriter(stream, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def decode(inputs: Input, content_type: str, key=None, require_csv_headers: bool = True):
    """The content as a value; everything but JSON and CSV comes as `{"inputs": …}`."""
    if not content_type:
        return inputs.get_as_json(key) if inputs.get_as_bytes(key) else {"inputs": ""}
    if "application/json" in content_type:
        return inputs.get_as_json(key)
    if "text/csv" in content_type:
        return decode_csv(inputs, require_headers=require_csv_headers)
    if "text/plain" in content_type:
        return {"inputs": [inputs.get_as_string(key)]}
    if content_type.startswith("image/"):
        return {"inputs": inputs.get_as_image(key)}
    if "tensor/npz" in content_type:
        return {"inputs": inputs.get_as_npz(key)}
    if content_type in ("tensor/ndlist", "application/x-npy"):
        return {"inputs": inputs.get_as_numpy(key)}
    if content_type == "application/x-www-form-urlencoded":
        return {"inputs": inputs.get_as_string(key)}
    return {"inputs": inputs.get_as_bytes(key)}


def encode(outputs: Output, prediction, content_type: str, key=None):
    """Adds a prediction in the form that the client accepts."""
    if not content_type or "application/json" in content_type or "*/*" in content_type:
        outputs.add_as_json(prediction, key=key)
        outputs.add_property("Content-Type", "application/json")
    elif "text/csv" in content_type:
        outputs.add(encode_csv(prediction), key=key)
        outputs.add_property("Content-Type", "text/csv")
    elif "tensor/npz" in content_type:
        outputs.add_as_npz(prediction, key=key)
        outputs.add_property("Content-Type", "tensor/npz")
    else:
        outputs.add_as_numpy(prediction, key=key)
        outputs.add_property("Content-Type", "tensor/ndlist")

"""Asks a prediction server through tritonclient[http]; prints what it got as one JSON line."""

import json
import sys

import numpy as np
import tritonclient.http as triton

host, departed = sys.argv[1], sys.argv[2]
client = triton.InferenceServerClient(host)
result = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready("flights"),
    "server": client.get_server_metadata(),
    "model": client.get_model_metadata("flights"),
}


def tensor(name, values, datatype, binary):
    it = triton.InferInput(name, list(values.shape), datatype)
    it.set_data_from_numpy(values, binary_data=binary)
    return it


def inputs(binary):
    return [
        tensor("distance", np.array([0.4, -4.0], dtype=np.float64), "FP64", binary),
        tensor("seats", np.array([[0.2], [0.2]], dtype=np.float32), "FP32", binary),
        tensor("origin", np.array(["ATL", "Zürich"], dtype=object), "BYTES", binary),
        tensor("departed", np.array([departed, departed], dtype=object), "BYTES", binary),
    ]


def packed(binary, milliseconds):
    return [
        tensor("numbers", np.array([[0.4, 0.2]], dtype=np.float32), "FP32", binary),
        tensor("dates", np.array([[milliseconds]], dtype=np.int64), "INT64", binary),
        tensor("strings", np.array([["ATL"]], dtype=object), "BYTES", binary),
    ]


def ask(given, binary, **more):
    outputs = [triton.InferRequestedOutput("output", binary_data=binary), triton.InferRequestedOutput("label", binary_data=binary)]
    answer = client.infer("flights", given, outputs=outputs, **more)
    labels = [x.decode() if isinstance(x, bytes) else x for x in answer.as_numpy("label").tolist()]
    return {"output": answer.as_numpy("output").tolist(), "label": labels, "id": answer.get_response().get("id")}


result["binary"] = ask(inputs(True), True, request_id="triton-1", model_version="1")
result["json"] = ask(inputs(False), False)
result["half_precision"] = ask([tensor("distance", np.array([0.5], dtype=np.float16), "FP16", True), tensor("seats", np.array([2], dtype=np.int8), "INT8", True)] + [tensor("origin", np.array(["ATL"], dtype=object), "BYTES", True), tensor("departed", np.array([departed], dtype=object), "BYTES", True)], True)
result["packed"] = ask(packed(True, int(sys.argv[3])), True)

NUMPY = {"BOOL": bool, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "BF16": np.float32, "FP32": np.float32, "FP64": np.float64}
ROW = {"distance": ([0.5, 0.5], "FP64"), "seats": ([1, 0], "FP64"), "origin": (["ATL", "ORD"], "BYTES"), "departed": ([departed, departed], "BYTES")}


def typed(endpoint, column, values, datatype, binary):
    given = {**ROW, column: (values, datatype)}
    if endpoint == "typed":
        given = {**given, "distance": ([2, 3], "INT64") if column != "distance" else given["distance"]}
    tensors = [tensor(name, np.array(v, dtype=NUMPY.get(d, object)), d, binary) for name, (v, d) in given.items()]
    return [row[1] for row in client.infer(endpoint, tensors).as_numpy("output").tolist()]


milliseconds = int(sys.argv[3])
cases = [("flights", "distance", [1, 0], d) for d in NUMPY]
cases += [("typed", "distance", [1, 0], d) for d in NUMPY]
cases += [("typed", "seats", [1, 0], d) for d in ("BOOL", "UINT8", "INT64", "FP32")]
cases += [(e, "departed", [milliseconds, 0], d) for e in ("flights", "typed") for d in ("INT64", "UINT64", "FP64")]
# NumPy has no bfloat16, and JSON neither of the half types: tritonclient sends them as bytes only
result["typed"] = [
    {"endpoint": e, "column": c, "datatype": d, "binary": b, "late": typed(e, c, v, d, b)}
    for e, c, v, d in cases
    for b in (True, False)
    if b or d not in ("FP16", "BF16")
]
try:
    client.infer("flights", inputs(True)[:1])
except triton.InferenceServerException as error:
    result["error"] = {"status": error.status(), "message": error.message()}
print(json.dumps(result))

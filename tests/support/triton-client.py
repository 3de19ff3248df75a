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
try:
    client.infer("flights", inputs(True)[:1])
except triton.InferenceServerException as error:
    result["error"] = {"status": error.status(), "message": error.message()}
print(json.dumps(result))

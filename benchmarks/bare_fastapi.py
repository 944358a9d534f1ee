"""What our service is measured against: FastAPI and the same graph, with no checks and no capture.

It is what one writes in ten minutes; nothing in it is slowed down or left out.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI

from inference.engine import GRAPH, OUTPUT
from inference.predictor import SCHEMA
from inference.schema import Schema

MODEL = Path(os.environ["BENCHMARK_MODEL"])

app = FastAPI()
schema = Schema.read(MODEL / SCHEMA)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL / GRAPH, options)


@app.get("/ping")
async def ping() -> dict[str, bool]:
    """Answer once the model is loaded."""
    return {"ok": True}


@app.post("/invocations")
async def invocations(body: dict[str, Any]) -> dict[str, Any]:
    """Predict the records of a request."""
    records = body["dataframe_records"]
    columns = {
        name: np.array(
            [[record[name]] for record in records],
            dtype=np.float32 if feature.kind == "number" else object,
        )
        for name, feature in schema.features.items()
    }
    probabilities = session.run([OUTPUT], columns)[0]
    return {
        "predictions": [
            {
                "prediction": schema.classes[row.argmax()],
                "confidence": float(row.max()),
                "probabilities": dict(zip(schema.classes, row.tolist(), strict=True)),
            }
            for row in probabilities
        ]
    }

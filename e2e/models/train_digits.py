#!/usr/bin/env python3
"""Trains the classifiers of handwritten digits that the demo and the tests serve, and writes what every answer is checked against.

    train_digits.py PACKAGES OUT

PACKAGES is a folder with the packages of requirements.txt; OUT is a folder that is made. For each classifier OUT holds NAME.onnx and NAME.json:

NAME.onnx  input `pixels` FP32 [N,64] (0..16, row by row) -> `label` INT64 [N], `probabilities` FP32 [N,10]; ONNX opset 17
NAME.json  the held-out images: `pixels` as in the data set, `labels` (the truth), and what onnxruntime answers: `predicted`, `probabilities`

The data are the 1,797 images of 8 x 8 pixels that scikit-learn carries (UCI, Optical Recognition of Handwritten Digits). Same machine, same file.
"""

import hashlib
import json
import os
import sys
import time

# One thread: sums in another order would be other weights.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, os.path.abspath(sys.argv[1]))
out = sys.argv[2]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from skl2onnx import to_onnx  # noqa: E402
from skl2onnx.common.data_types import FloatTensorType  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler  # noqa: E402

# name, hidden layers, least share of held-out images that must come out right
CLASSIFIERS = (
    # Small: an image costs some ten microseconds. For whatever is about serving.
    ("digits", (128, 64), 0.95),
    # Wide: a request with hundreds of images keeps a core busy for tens of milliseconds. For whatever is about load.
    ("digits-wide", (1024, 512), 0.95),
)

images, labels = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
os.makedirs(out, exist_ok=True)

for name, hidden, accuracy_min in CLASSIFIERS:
    started = time.monotonic()
    # Early stopping is off: the number of passes would depend on a split of the few images there are.
    mlp = MLPClassifier(hidden, random_state=0, max_iter=30, tol=0.0, n_iter_no_change=30)
    classifier = make_pipeline(MinMaxScaler((0, 1)), mlp)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 30 passes are not convergence, and enough.
        classifier.fit(train_x, train_y)

    model = to_onnx(
        classifier,
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    model.ir_version = 8
    for output, wanted in zip(model.graph.output, ("label", "probabilities"), strict=True):
        if output.name != wanted:
            for node in model.graph.node:
                node.output[:] = [wanted if o == output.name else o for o in node.output]
            output.name = wanted
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)

    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    predicted, probabilities = session.run(["label", "probabilities"], {"pixels": test_x.astype(np.float32)})
    accuracy = float((predicted == test_y).mean())
    agreement = float((predicted == classifier.predict(test_x)).mean())
    if accuracy < accuracy_min or agreement < 0.999:
        sys.exit(f"{name}: {accuracy:.3f} of the held-out images are right, {agreement:.3f} of the answers are those of scikit-learn")

    with open(os.path.join(out, name + ".onnx"), "wb") as file:
        file.write(data)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    with open(os.path.join(out, name + ".json"), "w") as file:
        json.dump(
            {
                "digest": digest,
                "accuracy": accuracy,
                "pixels": test_x.astype(int).tolist(),
                "labels": test_y.tolist(),
                "predicted": predicted.tolist(),
                "probabilities": [[float(f"{p:.6g}") for p in row] for row in probabilities.tolist()],
            },
            file,
        )
    seconds = time.monotonic() - started
    print(f"{name}: {accuracy:.1%} of {len(test_y)} held-out images right, {len(data) / 1024:.0f} KiB, {seconds:.1f} s", flush=True)

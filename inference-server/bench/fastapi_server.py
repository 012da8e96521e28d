"""FastAPI as its documentation deploys it, without what costs: uvloop, httptools, one worker, orjson, no access log, no validation of the body."""

import uvicorn
from fastapi import FastAPI, Request, Response

import classifier

host, port, model = classifier.arguments()
session = classifier.session(model)
app = FastAPI()


@app.post(classifier.ROUTE)
async def infer(request: Request):
    images = classifier.read(await request.body())
    labels, probabilities = session.run(["label", "probabilities"], {"pixels": images})
    return Response(classifier.write(labels, probabilities), media_type="application/json")


uvicorn.run(app, host=host, port=port, loop="uvloop", http="httptools", workers=1, access_log=False, log_level="warning")

"""FastAPI as its documentation deploys it, without what costs: uvloop, httptools, one worker, orjson, no access log, no validation of the body."""

import uvicorn
from fastapi import FastAPI, Request, Response

import protocol

arguments = protocol.arguments()
session = protocol.session(arguments.model)
app = FastAPI()


@app.post(protocol.route(arguments.name))
async def infer(request: Request):
    outputs = protocol.run(session, arguments.outputs, protocol.read(await request.body()))
    return Response(protocol.write(arguments.name, outputs), media_type="application/json")


uvicorn.run(app, host=arguments.host, port=arguments.port, loop="uvloop", http="httptools", workers=1, access_log=False, log_level="warning")

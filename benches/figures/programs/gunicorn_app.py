"""The worker of the figures, as a WSGI application of gunicorn's; also its configuration."""
import os
import struct
import time

workers = int(os.environ["BENCH_WORKERS"])
bind = os.environ["BENCH_ADDRESS"]


def post_worker_init(worker):
    record = struct.pack("=iIQ", os.getpid(), 0, time.monotonic_ns())
    fifo = os.open(os.environ["BENCH_FIFO"], os.O_WRONLY)
    os.write(fifo, record)
    os.close(fifo)


def application(environ, start_response):
    if environ["PATH_INFO"].startswith("/w"):
        time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]

"""A job queue: files are put into the queue `checksums`, and workers write the SHA-256 of each beside it.

    python3 job_queue.py add /var/log/*.log     # puts files into the queue
    flo worker run job_queue:worker             # works; start as many as you like, anywhere that sees the files
    python3 job_queue.py dead                   # the files that could not be done

A job is done at least once: a worker that is killed in the middle of one loses its lease, and another worker gets the job. So the work
is harmless when it is repeated: the sum is written to a file of its own, which then takes its place in one step.
"""

import hashlib
import os
import sys
from pathlib import Path

import flo

worker = flo.Worker(os.environ.get("FLO_URL", "flo://127.0.0.1:9000"))


@worker.queue("checksums", lease=5_000, max_attempts=5)
def checksum(job: dict[str, str]) -> None:
    path = Path(job["path"])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise flo.NonRetryable(f"{path} does not exist") from None  # a dead letter at once; other errors are tried again
    new = Path(f"{path}.sha256.{os.getpid()}")
    new.write_text(f"{digest}  {path.name}\n")
    new.replace(f"{path}.sha256")
    print(f"{digest[:12]}  {path}", flush=True)


def add(paths: list[str]) -> None:
    """Each file once: what is added again within five minutes is the same job."""
    for path in map(os.path.abspath, paths):
        seq = worker.client.queues.enqueue("checksums", json={"path": path}, dedup=path)
        print(f"job {seq}: {path}")


def dead() -> None:
    for letter in worker.client.queues.dead_letters("checksums"):
        print(f"job {letter.seq} failed {letter.attempts} times: {letter.json()['path']}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["add", *paths]:
            add(paths)
        case ["dead"]:
            dead()
        case _:
            sys.exit(__doc__)

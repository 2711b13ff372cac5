"""The Slurm jobs of examples/cluster, run with stand-ins for Slurm, torchrun, vLLM and lmms-eval."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from atomthink_plugin.config import Plan
from atomthink_plugin.model_adapters.register import model_class
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.plugins.arguments import read_pairs

pytestmark = pytest.mark.slow

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))

RECORD = """#!/usr/bin/env python3
import json, os, sys
environment = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY")}
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], environment]) + "\\n")
"""
STAND_INS = {
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "sbatch": RECORD + "print('101;cluster')\n",
    "scontrol": RECORD + "if sys.argv[1] == 'show': print('node1\\nnode2')\n",
    "scancel": RECORD,
    "torchrun": RECORD,
    "vllm": RECORD,
    "lmms-eval": RECORD,
}
ENDLESS = RECORD + "import time\ntime.sleep(600)\n"


class Cluster:
    """The folder as a user copies it, and what its jobs called."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "copy"
        shutil.copytree(CLUSTER, self.folder)
        self.programs = place / "bin"
        self.programs.mkdir()
        self._calls = place / "calls"
        for name, text in STAND_INS.items():
            self.replace(name, text)

    def replace(self, program: str, text: str) -> None:
        file = self.programs / program
        file.write_text(text)
        file.chmod(0o755)

    def start(self, script: str, **environment: str) -> subprocess.Popen[str]:
        settings = {
            "POLICY": str(TINY_ARGUMENTS["pretrained"]),
            "PRM": str(TINY_ARGUMENTS["prm"]),
            "POLL_SECONDS": "0.1",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": "7",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "CALLS": str(self._calls),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }
        # Slurm runs a copy in a folder of its own.
        copy = self.programs.parent / "slurm_script"
        shutil.copy(self.folder / script, copy)
        return subprocess.Popen(
            ["bash", str(copy)],
            cwd=self.folder,
            env={**os.environ, **settings, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, script: str, **environment: str) -> None:
        job = self.start(script, **environment)
        _, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors

    def calls(self, program: str) -> list[list[str]]:
        return [arguments for name, arguments, _ in self.records() if name == program]

    def records(self) -> list[tuple[str, list[str], dict[str, str | None]]]:
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def planned(arguments: list[str]) -> Plan:
    """The plan of a recorded command line, after the check that lmms-eval's command line makes."""
    model, model_args = option(arguments, "--model"), option(arguments, "--model_args")
    model_class(model).check(model_args, {"batch_size": 1, "device": None})
    return plan_for(model, read_pairs("--model_args", model_args))


def until(condition: Callable[[], Any]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come")


@contextmanager
def health(refusals: int = 0) -> Iterator[tuple[str, list[int]]]:
    """A server whose `/health` answers after so many refusals: its address, and the statuses so far."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            statuses.append(503 if len(statuses) < refusals else 200 if self.path == "/health" else 404)
            self.send_response(statuses[-1])
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", statuses
        server.shutdown()


def addresses(cluster: Cluster, job: int, **servers: str) -> None:
    folder = cluster.folder / "run" / f"servers-{job}"
    folder.mkdir(parents=True)
    for name in ("prm", "policy"):
        (folder / name).write_text(servers[name] + "\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_a_script_passes_shellcheck(script: Path) -> None:
    done = subprocess.run(["shellcheck", "-x", script.name], cwd=CLUSTER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_one_node_runs_one_process_for_each_gpu(cluster: Cluster) -> None:
    cluster.run("one_node.sh")
    (arguments,) = cluster.calls("torchrun")
    assert option(arguments, "--nproc-per-node") == "4"
    assert option(arguments, "-m") == "lmms_eval"
    plan = planned(arguments)
    assert plan.search_name == "beam"
    assert plan.policy.arguments["pretrained"] == TINY_ARGUMENTS["pretrained"]
    assert plan.arguments.journal == str(cluster.folder / "run" / "journal")
    assert not cluster.calls("scontrol")


def test_one_node_goes_back_into_the_queue_before_its_time_limit(cluster: Cluster) -> None:
    cluster.replace("torchrun", ENDLESS)
    job = cluster.start("one_node.sh")
    until(lambda: cluster.calls("torchrun"))
    job.send_signal(signal.SIGUSR1)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert cluster.calls("scontrol") == [["requeue", "7"]]


def test_a_failed_evaluation_fails_its_job(cluster: Cluster) -> None:
    cluster.replace("torchrun", "#!/bin/bash\nexit 3\n")
    job = cluster.start("one_node.sh")
    job.communicate(timeout=300)
    assert job.returncode == 3
    assert not cluster.calls("scontrol")


def test_the_evaluation_starts_after_its_servers_and_knows_their_job(cluster: Cluster) -> None:
    cluster.run("start_with_servers.sh")
    servers, evaluation = cluster.calls("sbatch")
    assert servers == ["--parsable", "servers.sh"]
    assert evaluation == ["--dependency=after:101", "--export=ALL,SERVERS_JOB=101", "evaluate.sh"]


def test_every_gpu_of_every_node_has_a_server_at_an_address_that_is_announced(cluster: Cluster) -> None:
    cluster.run("servers.sh", POLICY_GPUS="2", PRM_GPUS="2", OPENAI_API_KEY="a key")
    folder = cluster.folder / "run" / "servers-7"
    announced = {name: (folder / name).read_text().strip().split(";") for name in ("policy", "prm")}
    started = [(arguments, environment) for name, arguments, environment in cluster.records() if name == "vllm"]
    assert sorted(environment["CUDA_VISIBLE_DEVICES"] or "" for _, environment in started) == ["0", "1", "2", "3"]
    assert {environment["VLLM_API_KEY"] for _, environment in started} == {"a key"}
    for name, checkpoint in (("policy", TINY_ARGUMENTS["pretrained"]), ("prm", TINY_ARGUMENTS["prm"])):
        ports = [option(arguments, "--port") for arguments, _ in started if arguments[1] == checkpoint]
        assert len(ports) == 2
        assert announced[name] == [f"http://{node}:{port}/v1" for node in ("node1", "node2") for port in sorted(ports)]


def test_the_evaluation_waits_for_all_servers_and_asks_all_of_them(cluster: Cluster) -> None:
    with health() as (first, _), health(refusals=3) as (second, late), health() as (third, prm):
        addresses(cluster, 101, policy=f"{first};{second}", prm=third)
        cluster.run("evaluate.sh", SERVERS_JOB="101")
        assert late == [503, 503, 503, 200]
        assert prm == [200]
    (arguments,) = cluster.calls("lmms-eval")
    plan = planned(arguments)
    assert plan.policy.kind == "openai"
    assert plan.policy.arguments["base_url"] == f"{first};{second}"
    assert plan.identity["scorer"]["kind"] == "served_prm_token"
    assert option(arguments, "--model_args").count(f"prm_base_url={third},") == 1
    assert cluster.calls("scancel") == [["101"]]


def test_an_evaluation_without_servers_gives_up_and_cancels_them(cluster: Cluster) -> None:
    with health(refusals=10**6) as (down, _):
        addresses(cluster, 101, policy=down, prm=down)
        job = cluster.start("evaluate.sh", SERVERS_JOB="101", START_SECONDS="0")
        _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert down.removesuffix("/v1") in errors
    assert not cluster.calls("lmms-eval")
    assert cluster.calls("scancel") == [["101"]]


def test_an_evaluation_at_its_time_limit_starts_again_with_new_servers(cluster: Cluster) -> None:
    cluster.replace("lmms-eval", ENDLESS)
    with health() as (server, _):
        addresses(cluster, 101, policy=server, prm=server)
        job = cluster.start("evaluate.sh", SERVERS_JOB="101")
        until(lambda: cluster.calls("lmms-eval"))
        job.send_signal(signal.SIGUSR1)
        _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    assert [call[-1] for call in cluster.calls("sbatch")] == ["servers.sh", "evaluate.sh"]
    assert cluster.calls("scancel") == [["101"]]

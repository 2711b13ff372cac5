"""The Slurm jobs of examples/cluster, run with stand-ins for Slurm, torchrun, vLLM and lmms-eval."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from atomthink_plugin.config import Plan
from atomthink_plugin.model_adapters.register import model_class
from atomthink_plugin.model_adapters.tiny import TINY_ARGUMENTS
from atomthink_plugin.named_models import plan_for
from atomthink_plugin.plugins.arguments import read_pairs

pytestmark = pytest.mark.slow

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
JOBS = [script for script in SCRIPTS if "#SBATCH" in script.read_text()]

SBATCH = {
    "job-name": r"[\w-]+",
    "nodes": r"\d+",
    "ntasks": r"\d+",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d\d:\d\d:\d\d",
    "signal": r"B:[A-Z0-9]+@\d+",
    "requeue": "",
    "open-mode": "append|truncate",
    "output": r"[\w%.-]+",
}
"""Options of sbatch in these files, and what their values look like."""

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
    "ray": RECORD,
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


def addresses(cluster: Cluster, job: int, *, policy: str, prm: str, ranks: int = 1) -> None:
    folder = cluster.folder / "run" / f"servers-{job}"
    folder.mkdir(parents=True)
    ready = ";".join(url.removesuffix("/v1") + "/health" for url in f"{policy};{prm}".split(";"))
    for name, text in {"prm": prm, "policy": policy, "ranks": ranks, "ready": ready}.items():
        (folder / name).write_text(f"{text}\n")


def announced(cluster: Cluster) -> dict[str, list[str]]:
    folder = cluster.folder / "run" / "servers-7"
    return {name: (folder / name).read_text().strip().split(";") for name in ("policy", "prm", "ranks", "ready")}


def policy_servers(cluster: Cluster) -> list[list[str]]:
    return [call for call in cluster.calls("vllm") if call[1] == TINY_ARGUMENTS["pretrained"]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Router(_Strict):
    request_router_class: Literal["ray.serve.llm.request_router.PrefixCacheAffinityRouter"]
    request_router_kwargs: dict[Literal["imbalanced_threshold", "match_rate_threshold"], int | float]


class _Deployment(_Strict):
    num_replicas: int
    max_ongoing_requests: int
    request_router_config: _Router


class _LlmConfig(_Strict):
    model_loading_config: dict[Literal["model_id", "model_source"], str]
    engine_kwargs: dict[str, Any]
    deployment_config: _Deployment


class _LlmConfigs(_Strict):
    llm_configs: list[_LlmConfig]


class _RayApplication(_Strict):
    name: str
    route_prefix: str
    import_path: Literal["ray.serve.llm:build_openai_app"]
    args: _LlmConfigs


class RayServe(_Strict):
    """The parts that the example uses of a configuration of Ray Serve 2.60, with the names and types that Ray has."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"]
    http_options: dict[Literal["host", "port"], str | int]
    applications: list[_RayApplication]


def test_the_configuration_of_ray_serve_has_rays_names() -> None:
    found = RayServe.model_validate(yaml.safe_load((CLUSTER / "ray_serve.yaml").read_text()))
    (application,) = found.applications
    assert application.route_prefix == "/"


@pytest.mark.parametrize("script", JOBS, ids=lambda file: file.name)
def test_a_jobs_directives_are_options_of_sbatch(script: Path) -> None:
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH")
    )
    assert options.keys() <= SBATCH.keys()
    assert [name for name, value in options.items() if not re.fullmatch(SBATCH[name], value)] == []
    assert options.keys() >= {"job-name", "nodes", "time", "output"}


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
    found = announced(cluster)
    started = [(arguments, environment) for name, arguments, environment in cluster.records() if name == "vllm"]
    assert sorted(environment["CUDA_VISIBLE_DEVICES"] or "" for _, environment in started) == ["0", "1", "2", "3"]
    assert {environment["VLLM_API_KEY"] for _, environment in started} == {"a key"}
    for name, checkpoint in (("policy", TINY_ARGUMENTS["pretrained"]), ("prm", TINY_ARGUMENTS["prm"])):
        ports = [option(arguments, "--port") for arguments, _ in started if arguments[1] == checkpoint]
        assert len(ports) == 2
        assert found[name] == [f"http://{node}:{port}/v1" for node in ("node1", "node2") for port in sorted(ports)]
    assert sorted(found["ready"]) == sorted(url[:-2] + "health" for url in found["policy"] + found["prm"])
    assert found["ranks"] == ["1"]


@pytest.mark.parametrize("node", [0, 1])
def test_data_parallel_engines_of_all_nodes_have_one_address(cluster: Cluster, node: int) -> None:
    cluster.run("servers.sh", POLICY_SERVERS="data_parallel", POLICY_GPUS="3", PRM_GPUS="1", SLURM_NODEID=str(node))
    found = announced(cluster)
    assert found["policy"] == ["http://node1:8000/v1"]
    assert found["ranks"] == ["6"]
    assert found["ready"] == ["http://node1:9000/health", "http://node2:9000/health", "http://node1:8000/health"]
    (arguments,) = policy_servers(cluster)
    assert option(arguments, "--data-parallel-size") == "6"
    assert option(arguments, "--data-parallel-size-local") == "3"
    assert option(arguments, "--data-parallel-address") == "node1"
    assert ("--headless" in arguments) == (node == 1)
    if node == 1:
        assert option(arguments, "--data-parallel-start-rank") == "3"
    (devices,) = [
        environment["CUDA_VISIBLE_DEVICES"]
        for name, call, environment in cluster.records()
        if name == "vllm" and call == arguments
    ]
    assert devices == "0,1,2"


def test_ray_serves_the_policy_on_all_nodes(cluster: Cluster) -> None:
    cluster.run("servers.sh", POLICY_SERVERS="ray", POLICY_GPUS="3", PRM_GPUS="1", POLICY_PORT="8123")
    found = announced(cluster)
    assert found["policy"] == ["http://node1:8123/v1"]
    assert found["ranks"] == ["1"]
    assert found["ready"][-1] == "http://node1:8123/v1/models"
    assert not policy_servers(cluster)
    ((command, *arguments),) = cluster.calls("ray")
    assert command == "symmetric-run"
    assert option(arguments, "--address").startswith("node1:")
    assert (option(arguments, "--min-nodes"), option(arguments, "--num-gpus")) == ("2", "3")
    assert arguments[arguments.index("--") + 1 : -1] == ["serve", "run"]
    application = RayServe.model_validate(yaml.safe_load(Path(arguments[-1]).read_text()))
    (model,) = application.applications[0].args.llm_configs
    assert model.model_loading_config == {"model_id": TINY_ARGUMENTS["pretrained"]}
    assert model.deployment_config.num_replicas == 6
    assert application.http_options["port"] == 8123


def test_an_unknown_way_of_serving_is_refused(cluster: Cluster) -> None:
    job = cluster.start("servers.sh", POLICY_SERVERS="rays")
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert "POLICY_SERVERS=rays" in errors
    assert not cluster.calls("vllm")


def test_the_evaluation_names_the_engines_behind_an_address(cluster: Cluster) -> None:
    with health() as (policy, _), health() as (prm, _):
        addresses(cluster, 101, policy=policy, prm=prm, ranks=6)
        cluster.run("evaluate.sh", SERVERS_JOB="101")
    (arguments,) = cluster.calls("lmms-eval")
    assert planned(arguments).policy.arguments["data_parallel_size"] == 6


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

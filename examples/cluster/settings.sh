# shellcheck shell=bash disable=SC2034  # the jobs that read this file use the variables
# Settings of all jobs of this folder. Every variable can also be set in the shell that submits a job.
#
# Keys are read from the environment and are not written here: HF_TOKEN for gated checkpoints, OPENAI_API_KEY to protect
# the servers.

POLICY=${POLICY:-ORG/MODEL}               # a name on the hub, or a folder on a shared file system
PRM=${PRM:-Qwen/Qwen2.5-Math-PRM-7B}      # the process reward model
THINKING=${THINKING:-thinking=slow,search=beam,prm_trust_remote_code=True}
TASKS=${TASKS:-mathvista_atomic_testmini}
RUN=${RUN:-$PWD/run}                      # results, journal and addresses; on a file system that all nodes share

# Only for the jobs with servers: how the policy is served (separate, data_parallel or ray, see README.md), how many GPUs
# of a node serve it, and how many the PRM. Each GPU has a copy of its model.
POLICY_SERVERS=${POLICY_SERVERS:-separate}
POLICY_GPUS=${POLICY_GPUS:-3}
PRM_GPUS=${PRM_GPUS:-1}
POLICY_PORT=${POLICY_PORT:-8000}          # of the first policy server of a node; the next one has the next port
CLUSTER_PORT=${CLUSTER_PORT:-6379}        # by which the nodes find each other, with data_parallel and ray
PRM_PORT=${PRM_PORT:-9000}
START_SECONDS=${START_SECONDS:-1800}      # how long the evaluation waits for the servers
POLL_SECONDS=${POLL_SECONDS:-10}

# source ~/venv/bin/activate              # the environment with atomthink-plugin, and vllm on the servers
# export HF_HUB_OFFLINE=1                 # where compute nodes have no network: download checkpoints and data before

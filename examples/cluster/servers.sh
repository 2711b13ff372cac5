#!/usr/bin/env bash
# vLLM servers of the policy and of the PRM on all GPUs of one or several nodes. See start_with_servers.sh.
#SBATCH --job-name=atomthink-servers
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=09:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source ./settings.sh

# The addresses are known before the servers are up: the evaluation waits until each of them answers.
export SERVERS_FOLDER=$RUN/servers-$SLURM_JOB_ID
mkdir -p "$SERVERS_FOLDER"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HEAD_NODE=${nodes[0]} ENGINES=$((${#nodes[@]} * POLICY_GPUS)) NODES=${#nodes[@]}
policies='' prms='' ready='' ranks=1
for node in "${nodes[@]}"; do
  for ((i = 0; i < PRM_GPUS; i++)); do
    prms+="http://$node:$((PRM_PORT + i))/v1;" ready+="http://$node:$((PRM_PORT + i))/health;"
  done
  for ((i = 0; i < POLICY_GPUS; i++)); do
    [[ $POLICY_SERVERS == separate ]] || continue
    policies+="http://$node:$((POLICY_PORT + i))/v1;" ready+="http://$node:$((POLICY_PORT + i))/health;"
  done
done
case $POLICY_SERVERS in
  separate) ;;
  data_parallel) policies="http://$HEAD_NODE:$POLICY_PORT/v1" ready+="http://$HEAD_NODE:$POLICY_PORT/health" ranks=$ENGINES ;;
  ray) policies="http://$HEAD_NODE:$POLICY_PORT/v1" ready+="http://$HEAD_NODE:$POLICY_PORT/v1/models" ;;
  *) echo "POLICY_SERVERS=$POLICY_SERVERS is unknown: set separate, data_parallel or ray" >&2 && exit 1 ;;
esac
echo "${prms%;}" >"$SERVERS_FOLDER/prm"
echo "${policies%;}" >"$SERVERS_FOLDER/policy"
echo "$ranks" >"$SERVERS_FOLDER/ranks"
echo "${ready%;}" >"$SERVERS_FOLDER/ready"

srun --kill-on-bad-exit=0 bash ./serve_on_node.sh

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
folder=$RUN/servers-$SLURM_JOB_ID
mkdir -p "$folder"
policies='' prms=''
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  for ((i = 0; i < POLICY_GPUS; i++)); do policies+="http://$node:$((POLICY_PORT + i))/v1;"; done
  for ((i = 0; i < PRM_GPUS; i++)); do prms+="http://$node:$((PRM_PORT + i))/v1;"; done
done
echo "${prms%;}" >"$folder/prm"
echo "${policies%;}" >"$folder/policy"

srun --kill-on-bad-exit=0 bash ./serve_on_node.sh

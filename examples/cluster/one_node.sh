#!/usr/bin/env bash
# One node with several GPUs: each process has a policy and a PRM on a GPU of its own and answers its share of the questions.
# Start it in this folder with: sbatch one_node.sh
#SBATCH --job-name=atomthink
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source ./settings.sh
source ./stoppable.sh

requeue() { scontrol requeue "$SLURM_JOB_ID"; }

stoppable requeue srun --kill-on-bad-exit=1 torchrun --standalone --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  -m lmms_eval --model atomthink_hf --tasks "$TASKS" --log_samples --output_path "$RUN/out" \
  --model_args "pretrained=$POLICY,prm=$PRM,$THINKING,journal=$RUN/journal"

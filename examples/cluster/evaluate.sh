#!/usr/bin/env bash
# The evaluation, which asks the servers of another job and needs no GPU. See start_with_servers.sh.
#SBATCH --job-name=atomthink-evaluate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --output=%x-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source ./settings.sh
source ./stoppable.sh

folder=$RUN/servers-$SERVERS_JOB
trap 'scancel "$SERVERS_JOB"' EXIT  # the servers are not needed any longer, however this job ends

# wait_until COMMAND...: repeats COMMAND until it succeeds.
wait_until() {
  until "$@"; do
    if ((SECONDS > START_SECONDS)); then
      echo "the servers are not up after $START_SECONDS s: see atomthink-servers-$SERVERS_JOB.log (failed: $*)" >&2
      exit 1
    fi
    sleep "$POLL_SECONDS"
  done
}

wait_until test -s "$folder/ready"
policies=$(<"$folder/policy") ranks=$(<"$folder/ranks") prms=$(<"$folder/prm")
IFS=';' read -ra addresses <"$folder/ready"
for address in "${addresses[@]}"; do
  wait_until curl --silent --fail --max-time 10 --output /dev/null "$address"
done

start_again() { ./start_with_servers.sh; }

stoppable start_again srun lmms-eval --model atomthink_openai --tasks "$TASKS" --log_samples --output_path "$RUN/out" \
  --model_args "pretrained=$POLICY,base_url=$policies,data_parallel_size=$ranks,prm=$PRM,prm_base_url=$prms,$THINKING,journal=$RUN/journal"

#!/usr/bin/env bash
# Submits two jobs: the servers, and the evaluation that asks them. Start it in this folder.
set -euo pipefail

servers=$(sbatch --parsable servers.sh)
servers=${servers%%;*}  # without the name of the cluster
sbatch --dependency="after:$servers" --export="ALL,SERVERS_JOB=$servers" evaluate.sh

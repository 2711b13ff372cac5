#!/usr/bin/env bash
# The servers of one node, each on a GPU of its own. servers.sh runs it on every node.
set -euo pipefail
source ./settings.sh

export VLLM_API_KEY=${OPENAI_API_KEY:-}  # the evaluation sends the same key; without one the servers are open

for ((i = 0; i < POLICY_GPUS; i++)); do
  CUDA_VISIBLE_DEVICES=$i vllm serve "$POLICY" --port "$((POLICY_PORT + i))" \
    --generation-config vllm --enable-prompt-tokens-details &
done
for ((i = 0; i < PRM_GPUS; i++)); do
  CUDA_VISIBLE_DEVICES=$((POLICY_GPUS + i)) vllm serve "$PRM" --port "$((PRM_PORT + i))" \
    --runner pooling --hf-overrides '{"architectures": ["LastStepRewardModel"]}' &
done
wait  # if one server ends, the others go on, and its questions move to them

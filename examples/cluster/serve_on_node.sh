#!/usr/bin/env bash
# The servers of one node. servers.sh runs it on every node.
set -euo pipefail
source ./settings.sh

export VLLM_API_KEY=${OPENAI_API_KEY:-}  # the evaluation sends the same key; without one the servers are open

node=${SLURM_NODEID:-0}
gpus=$(seq -s, 0 $((POLICY_GPUS - 1)))

separate() { # a server on each GPU
  for ((i = 0; i < POLICY_GPUS; i++)); do
    CUDA_VISIBLE_DEVICES=$i vllm serve "$POLICY" --port "$((POLICY_PORT + i))" \
      --generation-config vllm --enable-prompt-tokens-details &
  done
}

data_parallel() { # one server on the first node, with an engine on each GPU of all nodes
  if ((node == 0)); then
    CUDA_VISIBLE_DEVICES=$gpus vllm serve "$POLICY" --port "$((POLICY_PORT))" \
      --data-parallel-size "$((ENGINES))" --data-parallel-size-local "$((POLICY_GPUS))" \
      --data-parallel-address "$HEAD_NODE" --data-parallel-rpc-port "$((CLUSTER_PORT))" \
      --generation-config vllm --enable-prompt-tokens-details &
  else
    CUDA_VISIBLE_DEVICES=$gpus vllm serve "$POLICY" --headless \
      --data-parallel-size "$((ENGINES))" --data-parallel-size-local "$((POLICY_GPUS))" \
      --data-parallel-address "$HEAD_NODE" --data-parallel-rpc-port "$((CLUSTER_PORT))" \
      --data-parallel-start-rank "$((node * POLICY_GPUS))" --generation-config vllm &
  fi
}

ray_serve() { # Ray Serve on all nodes, with a router that knows which engine has read which prefix
  local config=$SERVERS_FOLDER/ray_serve-$node.yaml
  sed -e "s|ORG/MODEL|$POLICY|" -e "s|num_replicas: .*|num_replicas: $ENGINES|" -e "s|port: .*|port: $POLICY_PORT|" \
    ray_serve.yaml >"$config"
  CUDA_VISIBLE_DEVICES=$gpus ray symmetric-run --address "$HEAD_NODE:$CLUSTER_PORT" --min-nodes "$NODES" \
    --num-gpus "$POLICY_GPUS" -- serve run "$config" &
}

case $POLICY_SERVERS in
  separate) separate ;;
  data_parallel) data_parallel ;;
  ray) ray_serve ;;
esac
for ((i = 0; i < PRM_GPUS; i++)); do
  CUDA_VISIBLE_DEVICES=$((POLICY_GPUS + i)) vllm serve "$PRM" --port "$((PRM_PORT + i))" \
    --runner pooling --hf-overrides '{"architectures": ["LastStepRewardModel"]}' &
done
wait  # if one server ends, the others go on, and its questions move to them

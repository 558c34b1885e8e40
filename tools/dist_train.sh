#!/usr/bin/env bash
# Train on several processes of one machine: tools/dist_train.sh CONFIG NUM_PROCESSES [options of tools/train.py]
# On several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT. If machines come and go set NNODES=1:4, the fewest and
# the most, and RENDEZVOUS, a new file that all of them see; then --resume is implied.
set -euo pipefail
config=$1 processes=$2; shift 2
if [[ ${NNODES:-1} == *:* ]]; then
    # a file outlives every machine; sharing the agents' TCP store, torch 2.15 gives a machine that joins later no MASTER_ADDR
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    meeting=(--rdzv_backend=c10d --rdzv_endpoint="$RENDEZVOUS" --rdzv_conf=store_type=file --max_restarts=10)
    set -- --resume "$@"
else
    meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" "${meeting[@]}" --nproc_per_node="$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"

#!/usr/bin/env bash
# From nothing to a served model in three minutes: train a tiny network on the scripted actor, export it, serve it,
# and localize a performance that it has never seen, through the server.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
runs=runs/demo
export POSELINE_MODELS=$runs/models POSELINE_PORT=${POSELINE_PORT:-8765} POSELINE_METRICS_PORT=${POSELINE_METRICS_PORT:-0}

rm -rf $runs && mkdir -p $POSELINE_MODELS
"$bin/poseline" finetune --config training/configs/demo.yaml --output $runs/finetune
"$bin/poseline" export --config training/configs/export-demo.yaml
echo demo-1 > $POSELINE_MODELS/DEFAULT

"$bin/poseline" serve &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true' EXIT
"$bin/python" - <<'PY'
import os, time, urllib.request
for _ in range(200):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{os.environ['POSELINE_PORT']}/readyz", timeout=1)
        break
    except OSError:
        time.sleep(0.1)
else:
    raise SystemExit("the server did not become ready")
PY
"$bin/poseline" stream actor --seed 424242 --seconds 30 --speed max --url "ws://127.0.0.1:$POSELINE_PORT/v1/stream"

#!/usr/bin/env bash
# Set up, audit the real photographs of demo_photographs/, train two small One-vs-One models on them,
# and evaluate each and their ensemble. Run again after a kill, it goes on where it was.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
source ./setup_env.sh requirements-quickstart.txt
export HF_HUB_OFFLINE=1 # the weights are installed, so no hub needs to be asked
data=./demo_photographs
results=./quickstart_results

step() {
  echo
  echo "-- $1"
}

step "1 of 3: audit the photographs (half a minute): are they sound, and the splits apart?"
"$python" prepare_dataset.py audit "$data" --strict --output_dir "$results/audit"

step "2 of 3: train two One-vs-One models, each of which has learned from ImageNet before"
"$python" -u train_ovo.py --base_models tf_efficientnet_lite0 tf_efficientnet_lite1 \
  --recipe small_data --dataset_path "$data" --output_dir "$results" \
  --device cpu --precision fp32 --resume || {
  status=$?
  [ $status -ne 2 ] || echo "to begin anew: rm -r \"$PWD/${results#./}\", then run this again" >&2
  exit $status
}

step "3 of 3: evaluate both and their ensemble on photographs that they have not seen"
"$python" evaluate_ensemble.py --results_dirs "$results"/tf_efficientnet_lite*_shared_5class_results \
  --dataset_path "$data" --split test --output_dir "$results/ensemble" --device cpu --precision fp32

step "done; open in a browser, and look at:"
echo "$PWD/${results#./}/ensemble/results/report.html   figures and tables of the ensemble"
echo "$PWD/${results#./}/audit   what the audit has found, with pictures"
echo
"$python" -m dev.verdict "$results/ensemble"

#!/usr/bin/env bash
# Set up, audit the real photographs of demo_photographs/, train two small One-vs-One models on them,
# and evaluate each and their ensemble. Run again after a kill, it goes on where it was.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
source ./setup_env.sh requirements-quickstart.txt
export HF_HUB_OFFLINE=1 # the weights are installed, so no hub needs to be asked
data=./demo_photographs
results=./quickstart_results

"$python" prepare_dataset.py audit "$data" --strict --output_dir "$results/audit"
"$python" -u train_ovo.py --base_models tf_efficientnet_lite0 tf_efficientnet_lite1 \
  --recipe small_data --dataset_path "$data" --output_dir "$results" --device cpu --precision fp32 --resume
"$python" evaluate_ensemble.py --results_dirs "$results"/tf_efficientnet_lite*_results \
  --dataset_path "$data" --split test --output_dir "$results/ensemble" --device cpu --precision fp32

echo
echo "To open:"
echo "  $PWD/${results#./}/ensemble/results/report.html   all figures and tables"
echo "  $PWD/${results#./}/audit   what was found of the photographs"
echo
"$python" -m dev.verdict "$results/ensemble"

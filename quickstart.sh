#!/usr/bin/env bash
# Set up, audit the real photographs of demo_photographs/, train two small One-vs-One models on them,
# evaluate each and their ensemble, then grade and explain pictures that come without a grade. Run
# again after a kill, it goes on where it was.
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

step "1 of 4: audit the photographs (half a minute): are they sound, and the splits apart?"
"$python" prepare_dataset.py audit "$data" --strict --output_dir "$results/audit"

step "2 of 4: train two One-vs-One models, each of which has learned from ImageNet before"
"$python" -u train_ovo.py --base_models tf_efficientnet_lite0 tf_efficientnet_lite1 \
  --recipe small_data --dataset_path "$data" --output_dir "$results" \
  --device cpu --precision fp32 --resume || {
  status=$?
  [ $status -ne 2 ] || echo "to begin anew: rm -r \"$PWD/${results#./}\", then run this again" >&2
  exit $status
}

step "3 of 4: evaluate both and their ensemble on photographs that they have not seen"
"$python" evaluate_ensemble.py --results_dirs "$results"/tf_efficientnet_lite*_shared_5class_results \
  --dataset_path "$data" --split test --output_dir "$results/ensemble" --device cpu --precision fp32 \
  --operating_point sensitivity=0.90

step "4 of 4: grade photographs that come without a grade, and show what the networks went by"
new="$results/new_photographs" # one of each grade that was held out, under a name that tells nothing
mkdir -p "$new"
for folder in "$data"/test/*/; do
  pictures=("$folder"*.jpg)
  cp "${pictures[0]}" "$new/"
done
"$python" predict.py --results_dirs "$results/ensemble" --images "$new" --csv "$results/predictions.csv" \
  --report "$results/predictions.html" --overwrite --device cpu --precision fp32
"$python" explain.py --results_dirs "$results/ensemble" --images "$new" --output_dir "$results/evidence" \
  --overwrite --device cpu --precision fp32

step "done; open in a browser, and look at:"
echo "$PWD/${results#./}/ensemble/results/report.html   figures and tables of the ensemble"
echo "$PWD/${results#./}/predictions.html   the new photographs: grade, referral, who must look at them"
echo "$PWD/${results#./}/evidence/evidence.html   where in them the evidence lies that the networks used"
echo "$PWD/${results#./}/ensemble/MODEL_CARD.md   what goes with the model when you hand it on"
echo "$PWD/${results#./}/audit   what the audit has found, with pictures"
echo
"$python" -m dev.verdict "$results/ensemble"

#!/usr/bin/env bash
# Train the ten One-vs-One classifiers of Swin Transformer V2-Tiny into ./swinv2_5class_results.
# Follow it with: tail -f swinv2_training_log.txt
# The settings are in train_guide.sh; further flags are passed on and win:
#   ./train_swinv2.sh --dataset_path ./my_graded_photographs --weights swinv2_tiny.pth
exec "$(dirname "$(readlink -f "$0")")/train_guide.sh" swinv2 "$@"

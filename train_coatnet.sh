#!/usr/bin/env bash
# Train the ten One-vs-One classifiers of CoAtNet-0 into ./coatnet_5class_results.
# Follow it with: tail -f coatnet_training_log.txt
# The settings are in train_guide.sh; further flags are passed on and win:
#   ./train_coatnet.sh --dataset_path ./my_graded_photographs --weights coatnet_0_rw_224.pth
exec "$(dirname "$(readlink -f "$0")")/train_guide.sh" coatnet "$@"

#!/usr/bin/env bash
# Train the ten One-vs-One classifiers of ConvNeXt-Tiny into ./convnext_5class_results.
# Follow it with: tail -f convnext_training_log.txt
# The settings are in train_guide.sh; further flags are passed on and win:
#   ./train_convnext.sh --dataset_path ./my_graded_photographs --weights convnext_tiny.pth
exec "$(dirname "$(readlink -f "$0")")/train_guide.sh" convnext "$@"

#!/usr/bin/env bash
# Train the ten One-vs-One classifiers of ConvNeXt-Tiny into ./convnext_5class_results.
# Follow it with: tail -f convnext_training_log.txt
# Further flags are passed on and win; --recipe small_data takes the place of the guide's numbers:
#   ./train_convnext.sh --dataset_path ./my_graded_photographs --weights convnext_tiny.pth
guide=(
  --img_size 224
  --epochs 100
  --batch_size 2
  --gradient_accumulation_steps 4
  --learning_rate 5e-5
  --weight_decay 0.00025
  --scheduler cosine
  --warmup_epochs 10
  --patience 28
  --enable_focal_loss
  --focal_loss_gamma 3.0
  --focal_loss_alpha 2.5
  --enable_class_weights
  --label_smoothing 0.1
  --enable_clahe
  --rotation_range 25
  --brightness_range 0.2
  --contrast_range 0.2
  --ovo_dropout 0.28
)
named=(--output_dir ./convnext_5class_results --experiment_name convnext_5class)
case " $* " in *" --recipe "* | *" --recipe="*) guide=() named=() ;; esac
case " $* " in *" --head "* | *" --head="*) named=() ;; esac # its kind names the directory
case " $* " in *" --num_classes "* | *" --num_classes="*) named=() ;; esac # so does their number
exec "$(dirname "$(readlink -f "$0")")/train_logged.sh" convnext_training_log.txt \
  --base_models convnext_tiny \
  --num_classes 5 \
  "${named[@]}" "${guide[@]}" "$@"

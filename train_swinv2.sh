#!/usr/bin/env bash
# Train the ten One-vs-One classifiers of Swin Transformer V2-Tiny into ./swinv2_5class_results.
# Follow it with: tail -f swinv2_training_log.txt
# Further flags are passed on and win; --recipe small_data takes the place of the guide's numbers:
#   ./train_swinv2.sh --dataset_path ./my_graded_photographs --weights swinv2_tiny.pth
guide=(
  --img_size 256
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
named=(--output_dir ./swinv2_5class_results --experiment_name swinv2_5class)
case " $* " in *" --recipe "* | *" --recipe="*) guide=() named=() ;; esac
case " $* " in *" --head "* | *" --head="*) named=() ;; esac # its kind names the directory
case " $* " in *" --num_classes "* | *" --num_classes="*) named=() ;; esac # so does their number
exec "$(dirname "$(readlink -f "$0")")/train_logged.sh" swinv2_training_log.txt \
  --base_models swinv2_tiny_window8_256 \
  --num_classes 5 \
  "${named[@]}" "${guide[@]}" "$@"

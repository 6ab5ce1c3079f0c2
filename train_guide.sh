#!/usr/bin/env bash
# Train one backbone with the guide's settings: train_guide.sh ALIAS MODEL IMG_SIZE FLAGS...
# What train_coatnet.sh, train_convnext.sh and train_swinv2.sh share. FLAGS win over the settings;
# with --recipe small_data among them, that recipe takes the place of the guide's.
alias="$1" model="$2" img_size="$3"
shift 3
guide=(
  --img_size "$img_size"
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
named=(--output_dir "./${alias}_5class_results" --experiment_name "${alias}_5class")
case " $* " in *" --recipe "* | *" --recipe="*) guide=() named=() ;; esac
case " $* " in *" --head "* | *" --head="*) named=() ;; esac # its kind names the directory
case " $* " in *" --num_classes "* | *" --num_classes="*) named=() ;; esac # so does their number
exec "$(dirname "$(readlink -f "$0")")/train_logged.sh" "${alias}_training_log.txt" \
  --base_models "$model" --num_classes 5 "${named[@]}" "${guide[@]}" "$@"

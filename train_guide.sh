#!/usr/bin/env bash
# Train one backbone with the guide's settings: train_guide.sh NAME FLAGS...
# What train_coatnet.sh, train_all.sh, slurm/train.sbatch and the others share. NAME is one of the
# seven (`train_guide.sh --list` prints them in the guide's priority), or another network, which is
# trained at its own size. FLAGS win over the settings; with --recipe small_data among them, that
# recipe takes the place of the guide's. TRAINING_LOG, if set, is the log.
[ -n "$1" ] || {
  echo "error: expected the name of a backbone first: train_guide.sh NAME FLAGS..." >&2
  exit 2
}
alias="$1"
shift
model="$alias" img_size=224
case "$alias" in
  --list) exec echo coatnet convnext swinv2 densenet121 efficientnetb2 resnet50 seresnext50 ;;
  coatnet) model=coatnet_0_rw_224 ;;
  convnext) model=convnext_tiny ;;
  swinv2) model=swinv2_tiny_window8_256 img_size=256 ;;
  densenet121 | efficientnetb2 | resnet50 | seresnext50) ;;
  *) img_size=0 ;; # its own
esac
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
[[ " $* " =~ " --seed "[^\ ]+" "[^-] ]] && named=() # several seeds have a directory each
exec "$(dirname "$(readlink -f "$0")")/train_logged.sh" "${TRAINING_LOG:-${alias}_training_log.txt}" \
  --base_models "$model" --num_classes 5 "${named[@]}" "${guide[@]}" "$@"

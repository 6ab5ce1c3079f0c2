#!/usr/bin/env bash
# Train all seven backbones unattended, in the guide's priority, each as its own train_*.sh would:
#   ./train_all.sh --dataset_path ./my_graded_photographs
#   ./train_all.sh --gpus 0,1,2,3     each of these GPUs takes the next backbone when it is free
#   ./train_all.sh --dry_run          the whole plan: hours, memory, disk; nothing is trained
#   ./train_all.sh --backbones coatnet swinv2 --weights coatnet=a.pth swinv2=b.pth
# All other flags go to every training. A failure stops no other one; the table at the end names it,
# and what other processes had and have not trained, and the exit status is 1. SIGTERM or Ctrl-C ends all with everything saved (143, 130). Run again, it
# goes on where it was and skips what is complete. Follow it with: tail -f *_training_log.txt
here="$(cd "$(dirname "$(readlink -f "$0")")" && pwd)"
python="$here/.venv/bin/python"
[ -x "$python" ] || python="$(command -v python || command -v python3)"
unset TRAINING_LOG # each has its own

fail() {
  echo "error: $* (see train_all.sh --help)" >&2
  exit 2
}

# -- what is asked for ---------------------------------------------------------------------------

backbones=() flags=() gpu_list="" given_gpus="" plan=""
declare -A weights=() status=() seconds=() gpu_of=() name_of=()
while [ $# -gt 0 ]; do
  word="$1"
  shift
  case "$word" in
    --backbones)
      while [ $# -gt 0 ] && [[ "$1" != -* ]]; do
        backbones+=("$1")
        shift
      done
      [ ${#backbones[@]} -gt 0 ] || fail "--backbones: expected names, found none"
      ;;
    --weights)
      while [ $# -gt 0 ] && [[ "$1" != -* ]]; do
        [[ "$1" == ?*=?* ]] || fail "--weights: expected BACKBONE=PATH for each, found '$1'"
        weights["${1%%=*}"]="${1#*=}"
        shift
      done
      ;;
    --backbones=?*) backbones+=("${word#*=}") ;;
    --weights=*) fail "$word: expected --weights BACKBONE=PATH, with a space" ;;
    --gpus) given_gpus=yes gpu_list="${1-}" && shift ;;
    --gpus=*) given_gpus=yes gpu_list="${word#*=}" ;;
    --dry_run) plan=yes ;;
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    --output_dir | --output_dir=*) fail "$word: each backbone has its own, in the folder that this runs in" ;;
    --base_models | --base_models=*) fail "$word: expected --backbones" ;;
    *) flags+=("$word") ;;
  esac
done

known="$("$here/train_guide.sh" --list)"
[ ${#backbones[@]} -gt 0 ] || read -ra backbones <<< "$known"
others=() seen=" "
for name in "${backbones[@]}"; do
  [[ "$seen" != *" $name "* ]] || fail "--backbones: $name twice"
  seen+="$name "
  [[ " $known " == *" $name "* ]] || others+=("$name")
done
for name in "${!weights[@]}"; do
  [[ "$seen" == *" $name "* ]] || fail "--weights: $name is not among the backbones:$seen"
done
if [ ${#others[@]} -gt 0 ]; then
  PYTHONPATH="$here" "$python" -c '
import sys
from common.models.backbones import resolve
from common.system.errors import InputError
try:
    for name in sys.argv[1:]:
        resolve(name)
except InputError as error:
    sys.exit(f"error: --backbones: {error}")' "${others[@]}" || exit 2
fi

gpus=("") # one worker, on what there is
if [ -n "$given_gpus" ]; then
  [[ "$gpu_list" =~ ^[[:alnum:]/-]+(,[[:alnum:]/-]+)*$ ]] ||
    fail "--gpus: expected numbers such as 0,1,2,3, found '$gpu_list'"
  [[ " ${flags[*]}" != *" --device"* ]] || fail "--gpus and --device exclude each other"
  flags+=(--device cuda)
  IFS=, read -ra gpus <<< "$gpu_list"
  found="$(CUDA_VISIBLE_DEVICES="$gpu_list" "$python" -c 'import torch; print(torch.cuda.device_count())')"
  [ "$found" = "${#gpus[@]}" ] ||
    fail "--gpus $gpu_list: expected ${#gpus[@]} different GPUs of this machine, found ${found:-none} (nvidia-smi -L lists them)"
fi

# what a training says; the log holds it, too, but for the error of one that is refused
said="$(mktemp -d)" || exit 2
trap 'rm -rf "$said"' EXIT

train() { # BACKBONE GPU FLAGS...: in place of this process
  local name="$1" own=()
  [ -z "$2" ] || export CUDA_VISIBLE_DEVICES="$2"
  [ -z "${weights[$name]}" ] || own=(--weights "${weights[$name]}")
  shift 2
  exec "$here/train_guide.sh" "$name" "${own[@]}" "$@" "${flags[@]}"
}

why() { # BACKBONE: the line that says why its training failed
  { grep '^error: ' "$said/$1" || cat "$said/$1"; } | tail -n 1
}

others() { # BACKBONE: the same, where it left something to others
  local line
  line="$(why "$1")"
  echo "${line#error: }"
}

# -- the plan ------------------------------------------------------------------------------------

# Sums what train_ovo.py --dry_run says of each backbone (of its seeds, one after the other), which
# are handed out as they would be.
sum_up() {
  awk -v gpus="$gpu_list" '
    function in_seconds(text, words) {
      split(text, words, " ")
      return words[2] == "h" ? words[1] * 3600 + words[3] * 60 : words[1] * (words[2] == "min" ? 60 : 1)
    }
    FNR == 1 { names[++count] = FILENAME; sub(/.*\//, "", names[count]) }
    /^  cache: / { folder = $0; sub(/.* GB in /, "", folder); caches[folder] = $2 }
    /^  memory: about / { if ($3 > memory[count]) memory[count] = $3 }
    /^  disk: about / { kept[count] += $3; more = $0; sub(/.*, /, "", more); resuming += more }
    /^  time: about / { sub(/.* an epoch, /, ""); sub(/ for .*/, ""); time[count] += in_seconds($0) }
    END {
      workers = split(gpus, gpu, ",")
      if (!workers) { workers = 1; gpu[1] = "-" }
      printf "%-20s %8s %10s %10s  %s\n", "backbone", "hours", "memory GB", "results GB", "GPU"
      for (i = 1; i <= count; i++) {
        if (memory[i] == "") { printf "%-20s %8s\n", names[i], "refused"; continue }
        free = 1
        for (w = 2; w <= workers; w++) if (busy[w] < busy[free]) free = w
        busy[free] += time[i]; sum += time[i]; disk += kept[i]
        if (memory[i] > most[free]) most[free] = memory[i]
        printf "%-20s %8.2f %10.1f %10.2f  %s\n", names[i], time[i] / 3600, memory[i], kept[i], gpu[free]
      }
      for (w = 1; w <= workers; w++) {
        if (gpus != "") printf "GPU %s: %.1f h, at most %.1f GB of memory\n", gpu[w], busy[w] / 3600, most[w]
        if (busy[w] > longest) longest = busy[w]
        if (most[w] > peak) peak = most[w]
      }
      for (folder in caches) cache += caches[folder]
      printf "all: %.1f h, done after %.1f h on %d worker%s, without early stopping; ", sum / 3600, \
        longest / 3600, workers, (workers > 1 ? "s" : "")
      printf "at most %.1f GB of memory each\n", peak
      printf "disk: %.2f GB of results, at most %.2f GB more until all are complete, %.2f GB of cache\n", \
        disk, resuming, cache
    }' "$@"
}

if [ -n "$plan" ]; then
  refused="" files=()
  for name in "${backbones[@]}"; do
    (train "$name" "${gpus[0]}" --dry_run) > "$said/$name" 2>&1 || refused+=" $name"
    cat "$said/$name"
    echo
    files+=("$said/$name")
  done
  sum_up "${files[@]}"
  [ -z "$refused" ] || {
    echo "error: no plan of$refused; see above" >&2
    exit 2
  }
  exit 0
fi

# -- the trainings -------------------------------------------------------------------------------

complete="complete" # said of a training that ended with status 0
case " ${flags[*]} " in *" --pairs "* | *" --pairs="*) complete="complete, its pairs" ;; esac

say() { echo "$(date -u +'%F %TZ')  $*"; }

stop="" running=()
halt() { # NAME NUMBER of a signal
  stop="$2"
  say "$1: stopping all after their step; again ends at once"
  [ ${#running[@]} -eq 0 ] || kill -TERM "${running[@]}" 2> /dev/null
}
trap 'halt SIGTERM 15' TERM
trap 'halt Ctrl-C 2' INT

note_ended() { # take those that have ended off the list; true if there were some
  local pid name left=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2> /dev/null; then
      left+=("$pid")
      continue
    fi
    name="${name_of[$pid]}"
    wait "$pid"
    status[$name]=$?
    seconds[$name]=$((SECONDS - ${seconds[$name]}))
    free+=("${gpu_of[$name]}")
    case "${status[$name]}" in
      0) say "$name is $complete" ;;
      3) say "$name ended; $(others "$name")" ;;
      *) say "$name: $(why "$name")" ;;
    esac
  done
  [ ${#left[@]} -lt ${#running[@]} ] && running=("${left[@]}")
}

free=("${gpus[@]}")
for name in "${backbones[@]}"; do
  until [ ${#free[@]} -gt 0 ] || note_ended; do sleep 0.5 & wait $!; done
  [ -z "$stop" ] || break
  gpu_of[$name]="${free[0]}" seconds[$name]=$SECONDS
  free=("${free[@]:1}")
  say "$name begins${gpu_of[$name]:+ on GPU ${gpu_of[$name]}}; tail -f ${name}_training_log.txt"
  (train "$name" "${gpu_of[$name]}" --require_trained) > "$said/$name" 2>&1 &
  running+=($!)
  name_of[$!]="$name"
  [ -z "$stop" ] || kill -TERM $! # it came just now
done
while [ ${#running[@]} -gt 0 ]; do note_ended || { sleep 0.5 & wait $!; }; done

# -- what has become of them ---------------------------------------------------------------------

failed="" left=""
printf '%-20s %-20s %9s  %s\n' backbone status time log
for name in "${backbones[@]}"; do
  log="${name}_training_log.txt"
  case "${status[$name]-none}" in
    0) word="$complete" ;;
    3) word="ended" left=yes log="$(others "$name")" ;;
    none) word="not begun" log="" ;;
    143)
      word="stopped, all saved"
      [ -n "$stop" ] || failed=yes # by somebody else
      ;;
    *) word="FAILED (${status[$name]})" failed=yes log="$(why "$name")" ;;
  esac
  time="${seconds[$name]-}"
  [ -z "$time" ] || time="$(printf '%d:%02d:%02d' $((time / 3600)) $((time / 60 % 60)) $((time % 60)))"
  printf '%-20s %-20s %9s  %s\n' "$name" "$word" "$time" "$log"
done
[ -z "$stop" ] || {
  echo "stopped; run the same command again to go on"
  exit $((128 + stop))
}
[ -z "$failed" ] || {
  echo "error: some have failed; run the same command again to go on with them" >&2
  exit 1
}
[ -z "$left" ] || {
  echo "error: other processes had a part and have not trained it; run the same command again once they have ended" >&2
  exit 1
}

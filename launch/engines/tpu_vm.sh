# Running this script again resumes the job: it follows a program that still
# runs, and otherwise starts it, which resumes from its last checkpoint.
# The exit status is the program's; 69: no slice could be had or set up; 75: the
# slice was preempted or the program was lost; 130: interrupted.
set -uo pipefail
poll_seconds=${POLL_SECONDS:-10}

log() { echo "$(date +%T) $*" >&2; }
fail() { log "$2" && exit "$1"; }
tpu() { gcloud compute tpus "$@" "${location[@]}"; }
queue_state() {
  tpu queued-resources describe "$name" --format='value(state.state)'
}
# Runs a command on a worker, or on all.
on() { tpu tpu-vm ssh "$name" --worker="$1" --command="$2" --quiet; }

work=$(mktemp -d)
clean_up() {
  rm -rf "$work"
  if ((keep)); then return; fi
  log "Deleting the slice $name."
  tpu queued-resources delete "$name" --force --quiet ||
    log "$name may still exist, and cost money."
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- The slice ---
if ((!exists)); then
  state=$(queue_state 2>/dev/null) || state=''
  if [[ $state == FAILED || $state == SUSPENDED ]]; then
    log "The slice $name was preempted or failed ($state); requesting another."
    tpu queued-resources delete "$name" --force --quiet
    state=''
  fi
  if [[ ! $state ]]; then
    tpu queued-resources create "$name" --node-id="$name" "${create[@]}" ||
      fail 69 "The slice $name could not be requested."
  fi
  misses=0
  until state=$(queue_state) && [[ $state == ACTIVE ]]; do
    log "Waiting for the slice $name: ${state:-unknown state}."
    if [[ $state == FAILED || $state == SUSPENDED ]]; then
      fail 69 "The slice $name cannot be had now ($state)."
    fi
    if [[ $state ]]; then misses=0; fi
    if ((++misses > 5)) && [[ ! $state ]]; then
      fail 69 "The slice $name cannot be queried, or was deleted."
    fi
    sleep "$poll_seconds"
  done
fi

# --- The program ---
# Prints the exit status of the program on worker 0, or running, or gone.
program_state() {
  on 0 'if [ -f job/status ]; then cat job/status
    elif [ -f job/pid ] && kill -0 "$(cat job/pid)" 2>/dev/null
    then echo running; else echo gone; fi'
}
if [[ $(program_state) != running ]]; then
  log 'Copying the code to all workers.'
  git -C "$root" ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -C "$root" -czf "$work/code.tgz" -T - ||
    fail 69 "The code in $root could not be packed."
  cat >"$work/job.sh" <<END
cd ~/job/code && source ../venv/bin/activate
$program >>../log 2>&1 &
echo \$! >../pid
wait \$!
echo \$? >../new_status && mv ../new_status ../status
END
  on all 'rm -rf job/code job/pid job/status; mkdir -p job/code' &&
    tpu tpu-vm scp "$work/code.tgz" "$work/job.sh" "$name:job/" \
      --worker=all --quiet ||
    fail 69 "The code could not be copied to $name."
  log 'Installing Python and the packages on all workers.'
  # shellcheck disable=SC2016
  on all 'set -e
    export PATH="$HOME/.local/bin:$PATH"
    tar -xzf job/code.tgz -C job/code
    command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
    uv venv --quiet --clear --python 3.12 job/venv
    VIRTUAL_ENV=$HOME/job/venv uv pip install --quiet --require-hashes \
      -r job/code/launch/requirements.txt' ||
    fail 69 "The packages could not be installed on $name."
  log 'Starting the program on all workers.'
  on all ': >job/log
    setsid nohup bash job/job.sh >/dev/null 2>&1 </dev/null &
    until [ -f job/pid ]; do sleep 0.1; done' ||
    fail 69 "The program could not be started on $name."
fi

# --- The log of worker 0, until the program ends ---
stop() {
  trap 'keep=1; log "$name still runs, and costs money."; exit 130' INT TERM
  log 'The program saves and stops. Press Ctrl-C again to leave it running.'
  on all 'kill -TERM "$(cat job/pid)"'
}
trap stop INT TERM
lines=+1
while :; do
  on 0 "tail -n $lines --pid=\$(cat job/pid) -F job/log 2>/dev/null"
  state=$(program_state) || state=''
  if [[ $state =~ ^[0-9]+$ ]]; then break; fi
  if [[ $state == gone ]]; then
    fail 75 "The program on $name was lost. Run $0 again to resume it."
  fi
  vm_state=$(tpu tpu-vm describe "$name" --format='value(state)') ||
    vm_state='unknown state'
  if [[ $vm_state != READY ]]; then
    fail 75 "$name was preempted ($vm_state). Run $0 again to resume the job."
  fi
  lines=20
  sleep "$poll_seconds"
done
if ((state)); then
  on all 'echo "$(hostname): status $(cat job/status)"; tail -n 3 job/log'
fi
log "$name: the program ended with status $state."
exit "$state"

# Running this script again resumes the job: it follows a program that still
# runs, reports one that ended meanwhile, and otherwise starts it, which resumes
# from its last checkpoint.
# The exit status is the program's; 69: no slice could be had, set up or reached;
# 75: the slice was preempted or the program was lost; 129, 130: interrupted.
set -uo pipefail
poll_seconds=${POLL_SECONDS:-10}
max_misses=${MAX_MISSES:-5}

log() { echo "$(date +%T) $*" >&2; }
fail() { log "$2"; exit "$1"; }
tpu() { gcloud compute tpus "$@" "${location[@]}"; }
# Runs a command on a worker, or on all. A connection that is dead ends.
on() {
  tpu tpu-vm ssh "$name" --worker="$1" --command="$2" --quiet \
    --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4
}
# Prints the state of the queued resource or the TPU VM, or NOT_FOUND, or nothing
# if it cannot be queried now.
describe() { # describe queued-resources|tpu-vm FIELD
  tpu "$1" describe "$name" --format="value($2)" 2>"$work/error" && return
  if grep -q NOT_FOUND "$work/error"; then echo NOT_FOUND; return; fi
  cat "$work/error" >&2
}

work=$(mktemp -d)
# Whether the slice is deleted at the end: one of this invocation until the
# program runs, and any when its program has ended or the slice was preempted.
delete=0
follower=''
clean_up() {
  trap "" HUP INT TERM  # Deleting the slice takes a minute.
  if [[ $follower ]]; then kill -- "-$follower" 2>/dev/null; fi
  if ((delete && !keep)); then
    log "Deleting the slice $name."
    tpu queued-resources delete "$name" --force --quiet ||
      log "$name may still exist, and cost money."
  else
    log "$name is not deleted: a slice that exists costs money."
  fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT TERM

log 'Packing the code.'
git -C "$root" ls-files -z --cached --others --exclude-standard |
  tar --null --ignore-failed-read -C "$root" -czf "$work/code.tgz" -T - ||
  fail 69 "The code in $root could not be packed."
# The group of its processes outlives a program that crashes.
cat >"$work/job.sh" <<END
cd ~/$job/code && source ../venv/bin/activate
echo \$\$ >../group
$program >>../log 2>&1 &
echo \$! >../pid
wait \$!
echo \$? >../new_status && mv ../new_status ../status
END

# --- The slice ---
create_slice() {
  delete=1
  tpu queued-resources create "$name" --node-id="$name" "${create[@]}" \
    2>"$work/error" && return
  cat "$work/error" >&2
  if grep -q ALREADY_EXISTS "$work/error"; then delete=0; fi
  fail 69 "The slice $name could not be requested."
}
misses=0
while ((!exists)); do
  state=$(describe queued-resources state.state)
  if [[ $state == ACTIVE ]]; then break; fi
  log "The slice $name: ${state:-unknown state}."
  if [[ $state == NOT_FOUND ]] && ((!delete)); then
    create_slice
    continue
  elif [[ $state == FAILED || $state == SUSPENDED ]]; then
    if ((delete)); then fail 69 "The slice $name cannot be had now ($state)."; fi
    log 'It was preempted or failed; requesting another.'
    tpu queued-resources delete "$name" --force --quiet ||
      fail 69 "The slice $name could not be deleted."
    continue
  elif [[ $state && $state != NOT_FOUND ]]; then
    misses=0
  elif ((++misses > max_misses)); then
    fail 69 "The slice $name cannot be queried, or was deleted."
  fi
  sleep "$poll_seconds"
done

# --- The program ---
# Sets `state` to the exit status of the program on worker 0, or running, gone, or
# new if it was not started. A failure of ssh proves nothing about the program.
query_program() {
  local misses=0 vm_state
  while :; do
    state=$(on 0 "cd $job 2>/dev/null || { echo new; exit; }
      if [ -f status ]; then cat status
      elif [ ! -f group ]; then echo new
      elif kill -0 \$(cat group) 2>/dev/null; then echo running
      elif [ -f status ]; then cat status
      else echo gone; fi" | tail -n 1)
    if [[ $state =~ ^([0-9]+|running|gone|new)$ ]]; then return; fi
    vm_state=$(describe tpu-vm state)
    if [[ $vm_state =~ ^(PREEMPTED|TERMINATED|NOT_FOUND)$ ]]; then
      delete=1
      fail 75 "$name was preempted ($vm_state). Run $0 again to resume the job."
    fi
    if ((++misses > max_misses)); then
      fail 69 "$name (${vm_state:-unknown state}) cannot be reached by ssh."
    fi
    sleep "$poll_seconds"
  done
}
query_program
if [[ $state == new || $state == gone ]]; then
  log 'Copying the code to all workers.'
  # Workers may still run their part of a program that worker 0 has lost.
  on all "mkdir -p $job && cd $job || exit
    if [ -f group ]; then kill -KILL -- -\$(cat group) 2>/dev/null; fi
    if [ -f log ]; then mv log log.\$(date +%s); fi
    rm -rf code pid group status && mkdir code" &&
    tpu tpu-vm scp "$work/code.tgz" "$work/job.sh" "$name:$job/" \
      --worker=all --quiet ||
    fail 69 "The code could not be copied to $name."
  log 'Installing Python and the packages on all workers.'
  on all "set -e
    export PATH=\"\$HOME/.local/bin:\$PATH\"
    tar -xzf $job/code.tgz -C $job/code
    command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
    uv venv --quiet --clear --python 3.12 $job/venv
    VIRTUAL_ENV=\$HOME/$job/venv uv pip install --quiet --require-hashes \
      -r $job/code/launch/requirements.txt" ||
    fail 69 "The packages could not be installed on $name."
  log 'Starting the program on all workers.'
  on all ": >$job/log
    setsid nohup bash $job/job.sh >/dev/null 2>&1 </dev/null &
    until [ -f $job/pid ]; do sleep 0.1; done" ||
    fail 69 "The program could not be started on $name."
  state=running
fi
delete=0

# --- The log of worker 0, until the program ends ---
stop() {
  trap 'exit 130' INT TERM
  log 'The program saves and stops. Press Ctrl-C again to leave it running.'
  # In the background, Ctrl-C does not end it.
  on all "kill -TERM \$(cat $job/pid)" &
  wait $!
}
trap stop INT TERM
lines=+1
while :; do
  # Signals interrupt `wait`, and not a command in the foreground. A group of its
  # own does not get Ctrl-C of the terminal.
  set -m
  on 0 "tail -n $lines --pid=\$(cat $job/group) -F $job/log 2>/dev/null" \
    </dev/null &
  follower=$!
  set +m
  while kill -0 "$follower" 2>/dev/null; do wait "$follower"; done
  follower=''
  query_program
  if [[ $state != running ]]; then break; fi
  lines=20
  sleep "$poll_seconds"
done
delete=1
if [[ $state == gone || $state == new ]]; then
  fail 75 "The program on $name was lost. Run $0 again to resume it."
fi
if ((state)); then
  on all "echo \"\$(hostname): status \$(cat $job/status)\"; tail -n 3 $job/log"
fi
# On a slice that is kept, running this script again starts the program again.
if ((keep)); then on 0 "mv $job/status $job/last_status"; fi
log "$name: the program ended with status $state."
exit "$state"

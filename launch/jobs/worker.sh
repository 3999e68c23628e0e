#!/usr/bin/env bash
# What the launcher does on a worker, be it a host of a pod slice or this machine.
#
#   worker.sh setup WHEEL SHA256      install the pinned requirements and the wheel
#   worker.sh start DIR COMMAND...    run a command that outlives this script
#   worker.sh report DIR OFFSET       tell its state, and its log from a byte on
#   worker.sh stop DIR SIGNAL         send it a signal
#   worker.sh clear DIR               forget a command that has ended
#
# DIR gets log, pid, started and, when the command has ended, status. All of it
# may be said twice: what is done already is left alone.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
uv_version=0.9.30
python_version=3.12

# The time a process was started: a number alone may since be another's.
started_at() { ps -o lstart= -p "$1" 2>/dev/null || true; }

is_running() {
  [ -s "$1/pid" ] && [ ! -e "$1/status" ] &&
    [ -n "$(started_at "$(cat "$1/pid")")" ] &&
    [ "$(started_at "$(cat "$1/pid")")" = "$(cat "$1/started")" ]
}

setup() {
  local wheel=$1 sha256=$2 found pins venv code
  found=$(sha256sum "$here/$wheel" | cut -d' ' -f1)
  if [ "$found" != "$sha256" ]; then
    echo "$wheel has sha256 $found; expected $sha256" >&2
    exit 1
  fi
  pins=$(sha256sum "$here/requirements.txt" | cut -c1-12)
  venv=$here/venv-$pins code=$here/code-${sha256:0:12}
  if [ ! -e "$venv/ready" ]; then
    # The images of TPU VMs hold a Python that is too old; uv brings one.
    python3 -m pip install --quiet --user "uv==$uv_version"
    python3 -m uv venv --clear --python "$python_version" "$venv"
    python3 -m uv pip install --python "$venv/bin/python" \
      --require-hashes -r "$here/requirements.txt"
    touch "$venv/ready"
    echo "Installed the requirements $pins."
  fi
  if [ ! -e "$code/ready" ]; then
    rm -rf "$code"
    "$venv/bin/python" -m zipfile -e "$here/$wheel" "$code"
    touch "$code/ready"
    echo "Installed $wheel, sha256 $sha256."
  fi
  ln -sfn "$venv" "$here/venv"
  ln -sfn "$code" "$here/code"
  echo "Ready: $wheel, sha256 $sha256."
}

start() {
  local dir=$1
  shift
  if is_running "$dir"; then
    echo 'It runs already.'
    return
  fi
  rm -rf "$dir"
  mkdir -p "$dir"
  nohup bash "${BASH_SOURCE[0]}" attend "$(cd "$dir" && pwd)" "$@" \
    </dev/null >/dev/null 2>&1 &
  until [ -s "$dir/started" ]; do sleep 0.05; done
}

# Runs the command, and stays to write down how it ended.
attend() {
  export PYTHONUNBUFFERED=1
  local dir=$1 status=0
  shift
  "$@" >"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  { started_at $!; echo; } >"$dir/started.part"
  mv "$dir/started.part" "$dir/started"
  wait $! || status=$?
  echo "$status" >"$dir/status.part"
  mv "$dir/status.part" "$dir/status"
}

# One line: the state, the exit status or -, the log's size, the log in base64.
report() {
  local dir=$1 offset=$2 state=absent status=- size=0
  if is_running "$dir"; then
    state=running
  elif [ -e "$dir/pid" ]; then
    # The status is written just after the end.
    [ -e "$dir/status" ] || sleep 1
    state=lost
    if [ -e "$dir/status" ]; then
      state=ended status=$(cat "$dir/status")
    fi
  fi
  if [ -e "$dir/log" ]; then
    size=$(wc -c <"$dir/log" | tr -d ' ')
    # A negative offset counts from the end.
    if [ "$offset" -lt 0 ]; then
      offset=$((size + offset > 0 ? size + offset : 0))
    fi
    echo "worker-report $state $status $size" \
      "$(tail -c "+$((offset + 1))" "$dir/log" | head -c 1000000 | base64 |
        tr -d '\n')"
  else
    echo "worker-report $state $status 0 "
  fi
}

stop() {
  if is_running "$1"; then
    kill "-$2" "$(cat "$1/pid")"
  fi
}

clear() {
  if is_running "$1"; then
    echo "$1 is still running." >&2
    exit 1
  fi
  rm -rf "$1"
}

case ${1:-} in
  setup | start | attend | report | stop | clear) "$@" ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac

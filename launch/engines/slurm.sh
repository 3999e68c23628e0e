# Since Slurm 22.05 srun does not inherit --cpus-per-task.
if [[ ${SLURM_CPUS_PER_TASK:-} ]]; then
  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
fi
# srun ends the peers of a task that failed, and has the highest status, so tasks
# record a permanent one. The trap keeps their shell until the program has saved.
export permanent PERMANENT_STATUS=$PWD/$SLURM_JOB_NAME-$SLURM_JOB_ID.status
status=0
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c 'trap : TERM
  "$@"
  status=$?
  if [[ $status =~ ^($permanent)$ ]]; then
    echo "$status" >"$PERMANENT_STATUS"
  fi
  exit "$status"' task "${program[@]}" || status=$?
if [[ -s $PERMANENT_STATUS ]]; then
  status=$(head -n 1 "$PERMANENT_STATUS")
  max_restarts=0
  rm "$PERMANENT_STATUS"
fi
echo "$SLURM_JOB_NAME $SLURM_JOB_ID ended with status $status."
# Other failures are tried again: the limit of time, preemption, a lost process,
# or storage that is unavailable. Slurm itself requeues the job when a node
# fails. scancel ends this script, so nothing is requeued then.
if ((status == 0 || ${SLURM_RESTART_COUNT:-0} >= max_restarts)); then
  exit "$status"
fi
echo "Requeued; this was restart ${SLURM_RESTART_COUNT:-0} of $max_restarts."
scontrol requeue "$SLURM_JOB_ID"
# The requeue ends this script; its own end must not come first.
sleep 60
exit "$status"

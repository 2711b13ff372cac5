# shellcheck shell=bash
# Runs a command that Slurm may interrupt before the time limit of the job.

# stoppable THEN COMMAND...: runs COMMAND and returns its status. When the job gets the signal USR1, it ends COMMAND, runs
# the function THEN, and ends the job without an error. What COMMAND has finished is in the journal.
stoppable() {
  local child then=$1
  shift
  "$@" &
  child=$!
  # shellcheck disable=SC2064  # both values are those of this call
  trap "kill -TERM $child 2>/dev/null; wait $child || true; $then; exit 0" USR1
  wait "$child"
}

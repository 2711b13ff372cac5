# shellcheck shell=bash
# Runs a command that Slurm may interrupt before the time limit of the job.

# stoppable THEN COMMAND...: runs COMMAND and returns its status. When the job gets the signal USR1, it ends COMMAND, runs
# the function THEN, and ends the job without an error. What COMMAND has finished is in the journal.
stoppable() {
  local then=$1
  shift
  # Set before COMMAND starts, so that no signal comes too early. $! is the process of COMMAND.
  # shellcheck disable=SC2064  # THEN is that of this call
  trap "kill -TERM \$! 2>/dev/null || true; wait \$! || true; $then; exit 0" USR1
  "$@" &
  wait $!
}

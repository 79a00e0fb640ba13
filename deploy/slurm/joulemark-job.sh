#!/bin/sh
# Joules and joules per token of each job: Slurm's Prolog and its Epilog, one file for both.
#
# slurm.conf:  Prolog=/etc/slurm/prolog.d/*   Epilog=/etc/slurm/epilog.d/*   PrologFlags=Alloc
# Put this file, or a link to it, into both folders. It reads the node's exporter (and NVML beside
# it) as the job begins and as it ends, and writes /var/log/joulemark-jobs/JOB.NODE.json.
#
# A prolog that fails drains the node, so this one never does: whatever happens it ends with 0,
# within JOULEMARK_TIMEOUT_S seconds and the two that a kill takes. Slurm runs it as root; it trusts
# no file that others can write.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP CUDA_VISIBLE_DEVICES
umask 077

# Root's own settings, as shell assignments: JOULEMARK, JOULEMARK_JOB_OPTIONS, JOULEMARK_TIMEOUT_S.
conf=${JOULEMARK_JOB_CONF:-/etc/default/joulemark-job}
# shellcheck source=/dev/null
[ -r "$conf" ] && . "$conf"

case ${SLURM_SCRIPT_CONTEXT:-} in
    prolog_slurmd) verb=begin ;;
    epilog_slurmd) verb=end ;;
    *) exit 0 ;;
esac
joulemark=${JOULEMARK:-/opt/joulemark/bin/joulemark}
[ -x "$joulemark" ] || exit 0

# shellcheck disable=SC2086 # several options are several words
said=$(cd / && timeout -k 2 "${JOULEMARK_TIMEOUT_S:-10}" \
    "$joulemark" job "$verb" ${JOULEMARK_JOB_OPTIONS:-} </dev/null 2>&1)
code=$?
if [ "$code" -ne 0 ]; then
    command -v logger >/dev/null 2>&1 \
        && logger -t joulemark-job "job ${SLURM_JOB_ID:-?}: $verb: $code: $said" 2>/dev/null
fi
exit 0

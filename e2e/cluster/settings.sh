#!/usr/bin/env bash
# Sourced by every script of the cluster: its places, names and addresses, and how to act inside the node.
# shellcheck disable=SC2034 # most of these are for the scripts that source this

cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$HOME/.cache/progressdb/cluster
state=${PROGRESSDB_CLUSTER_STATE:-/var/lib/progressdb-cluster}

# recipe DIRECTORY: changes with any file in it
recipe() {
  (cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
}

# Built programs, one directory for each recipe they were built from.
upstream=$cache/upstream-$(recipe "$cluster/upstream")
own=$cache/own-$(recipe "$cluster/own")
PATH=$upstream:$own:$PATH:/usr/sbin:/sbin

# Addresses set aside for measurements between networks, so that no network of the machine has them. The machine and
# the node are the two ends of one link; the machine reaches pods and services over it.
link=pdb-cluster
host_address=198.18.0.1
node_address=198.18.0.2
pod_addresses=198.18.1.0/24
service_addresses=198.19.0.0/16
api_service=198.19.0.1

node=node
domain=cluster.local
driver=hostcsi.test
cgroup=progressdb-cluster
pause_image=cluster.test/pause:1
workload_image=cluster.test/workload:1
own_kubeconfig=$state/kube/admin.conf
csi_socket=$state/kubelet/plugins/$driver/csi.sock

fail() {
  echo "cluster: $*" >&2
  exit 1
}

# The cluster that the user chose, if it is another than this one.
chosen_kubeconfig() {
  [ "${KUBECONFIG:-$own_kubeconfig}" = "$own_kubeconfig" ] || echo "$KUBECONFIG"
}

need_root() {
  [ "$(id -u)" = 0 ] || fail 'it takes root to make a node; or set KUBECONFIG to use a cluster that there is'
}

# One `up` or `down` at a time. What they start must not hold the lock: 9>&-.
lock() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock --nonblock 9 || {
    echo 'cluster: waiting for another up or down to end'
    flock 9
  }
}

# began PID: when the process started, in ticks since boot; together with the pid it identifies a process uniquely.
began() {
  local line
  read -r line 2>/dev/null <"/proc/$1/stat" || return 1
  # The name in parentheses may hold spaces; the start is the twentieth field behind it.
  line=${line##*) }
  # shellcheck disable=SC2086 # to be split
  set -- $line
  [ "$1" != Z ] && echo "${20}"
}

# alive FILE: prints the pid in it if that process is still the one that was written down
alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1" && [ "$(began "$pid")" = "$start" ] && echo "$pid"
}

# What the node has of its own.
namespaces=(--mount --pid --net --uts)

# enter COMMAND...: run it inside the node
enter() {
  local first
  first=$(alive "$state/node.pid") || fail 'it is not up; type: make cluster-up'
  nsenter --target "$first" "${namespaces[@]}" -- "$@"
}

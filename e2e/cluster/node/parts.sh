#!/usr/bin/env bash
# Sourced inside the node: the parts of the cluster, how each is run, and whether it runs.
# shellcheck source=e2e/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

# In the order in which they start.
parts=(
  etcd apiserver containerd controllers scheduler kubelet proxy dns
  hostcsi snapshot-controller csi-provisioner csi-snapshotter csi-resizer
)

# command_of PART: sets `command` to what runs it
# shellcheck disable=SC2034 # node/run uses it
command_of() {
  local pki=$state/pki kube=$state/kube config=$state/config peer=http://127.0.0.1:2380 client=http://127.0.0.1:2379
  case $1 in
    etcd)
      command=(etcd --name="$node" --data-dir="$state/etcd" --log-level=warn
        --listen-client-urls="$client" --advertise-client-urls="$client"
        --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="$node=$peer"
        # Without fsync: no test cuts the machine's power, and a killed etcd loses nothing.
        --unsafe-no-fsync)
      ;;
    apiserver)
      command=(kube-apiserver --etcd-servers="$client" --advertise-address="$node_address" --secure-port=6443
        --service-cluster-ip-range="$service_addresses" --allow-privileged --authorization-mode='Node,RBAC'
        --enable-admission-plugins=NodeRestriction --endpoint-reconciler-type=lease --profiling=false
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key"
        --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key"
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP
        --service-account-issuer="https://kubernetes.default.svc.$domain"
        --service-account-key-file="$pki/accounts.pub" --service-account-signing-key-file="$pki/accounts.key")
      ;;
    containerd)
      command=(containerd --config="$config/containerd.toml")
      ;;
    controllers)
      command=(kube-controller-manager --kubeconfig="$kube/controllers.conf"
        --authentication-kubeconfig="$kube/controllers.conf" --authorization-kubeconfig="$kube/controllers.conf"
        --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/accounts.key"
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
        --use-service-account-credentials --leader-elect=false --profiling=false
        --flex-volume-plugin-dir="$state/kubelet/flexvolume"
        --kube-api-qps=200 --kube-api-burst=400 --node-monitor-grace-period=20s)
      ;;
    scheduler)
      command=(kube-scheduler --kubeconfig="$kube/scheduler.conf" --leader-elect=false --profiling=false
        --authentication-kubeconfig="$kube/scheduler.conf" --authorization-kubeconfig="$kube/scheduler.conf")
      ;;
    kubelet)
      command=(kubelet --config="$config/kubelet.yaml" --kubeconfig="$kube/kubelet.conf" --root-dir="$state/kubelet"
        --cert-dir="$state/kubelet/pki" --hostname-override="$node" --node-ip="$node_address")
      ;;
    proxy)
      command=(kube-proxy --config="$config/proxy.yaml")
      ;;
    dns)
      command=(coredns -conf "$config/Corefile")
      ;;
    hostcsi)
      command=(hostcsi -driver "$driver" -node "$node" -data "$state/csi" -faults "$state/csi-faults"
        -socket "$csi_socket" -registration-socket "$state/kubelet/plugins_registry/$driver-reg.sock")
      ;;
    snapshot-controller)
      command=(snapshot-controller --kubeconfig="$kube/admin.conf")
      ;;
    csi-provisioner)
      command=(csi-provisioner --kubeconfig="$kube/admin.conf" --csi-address="$csi_socket" --default-fstype=ext4
        --extra-create-metadata)
      ;;
    csi-snapshotter | csi-resizer)
      # A call that hangs times out, and is seen, before a test does.
      command=("$1" --kubeconfig="$kube/admin.conf" --csi-address="$csi_socket" --timeout=10s)
      ;;
    *)
      fail "there is no part $1; there are: ${parts[*]}"
      ;;
  esac
}

runs() {
  alive "/run/parts/$1" >/dev/null
}

# start PART: in a session of its own, with its output in log/PART.log; does nothing to one that runs
start_part() {
  if runs "$1"; then return; fi
  rm -f "/run/parts/$1"
  setsid --fork "$cluster/node/run" "$1" </dev/null >>"$state/log/$1.log" 2>&1
  until [ -e "/run/parts/$1" ]; do sleep 0.02; done
}

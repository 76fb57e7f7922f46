#!/usr/bin/env bash
# Sourced from the root of the checkout: a cluster with this checkout's operator, and the tools to look at it on the path.

bin=${CARGO_TARGET_DIR:?is set by make}/release
own_cluster=
if [ -z "${KUBECONFIG:-}" ] || [ "$KUBECONFIG" = "$(env -u KUBECONFIG e2e/cluster/env)" ]; then own_cluster=1; fi

prepare() {
  [ -z "$own_cluster" ] || e2e/cluster/up
  eval "$(e2e/cluster/env --shell)"
  # kubectl finds its plugins on the path.
  mkdir -p "$bin/plugins"
  ln -sf ../progressdb-operator "$bin/plugins/kubectl-progressdb"
  export PATH=$bin/plugins:$PATH
  [ -z "$own_cluster" ] || load_images
  install_operator
}

# Images of this machine's builds. An upgrade goes to dev-next: the same server under another image id.
load_images() {
  local work container
  scripts/image server "$bin/progressdb"
  scripts/image operator "$bin/progressdb-operator"
  container=$(buildah from --pull-never localhost/progressdb:dev)
  buildah config --label org.opencontainers.image.version=next "$container"
  buildah commit --quiet --rm "$container" localhost/progressdb:dev-next >/dev/null
  work=$(mktemp -d)
  for image in progressdb-operator:dev progressdb:dev progressdb:dev-next; do
    buildah push --quiet "localhost/$image" "docker-archive:$work/image.tar:localhost/$image"
    e2e/cluster/load-image "$work/image.tar" >/dev/null
    rm "$work/image.tar"
  done
  rmdir "$work"
}

install_operator() {
  helm upgrade --install progressdb-crds charts/progressdb-crds >/dev/null
  helm upgrade --install progressdb-operator charts/progressdb-operator --namespace progressdb-system --create-namespace \
    --set image.repository="${E2E_IMAGE_PREFIX:-localhost/}progressdb-operator" --set image.tag=dev \
    --wait --timeout 240s >/dev/null
  # A cluster that was there before may have a pod of an older build under the same name.
  kubectl -n progressdb-system rollout restart deployment/progressdb-operator >/dev/null
  kubectl -n progressdb-system rollout status deployment/progressdb-operator --timeout=240s >/dev/null
  echo 'e2e: the operator is installed'
}

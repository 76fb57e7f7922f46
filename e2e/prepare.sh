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

# The versions of testing/next, by which their images are tagged.
next_versions=(next next-plain next-unready next-slow next-smoke next-corrupt)
# The same as dev and next-plain, with credentials for an object store, as a cloud would give to their pods.
storing_versions=(dev-storing next-storing)

# Images of this machine's builds: one archive, in which what several have in common is there once.
load_images() {
  local work image tags=(dev dev-next "${next_versions[@]}" "${storing_versions[@]}")
  work=$(mktemp -d)
  scripts/image server "$bin/progressdb"
  scripts/image operator "$bin/progressdb-operator"
  next_images "$work"
  for image in progressdb-operator:dev "${tags[@]/#/progressdb:}"; do
    buildah push --quiet --compression-level 1 "localhost/$image" "oci:$work/images:localhost/$image"
  done
  tar -C "$work/images" -cf "$work/images.tar" .
  e2e/cluster/load-image "$work/images.tar" >/dev/null
  rm -r "$work"
}

# next_images DIR: dev-next is the same server under another image id. The others have another program in one layer more, and
# differ in the variable that tells it which version it is.
next_images() {
  local version
  derive dev dev-next --label org.opencontainers.image.version=next
  objcopy --strip-all "$bin/progressdb-next" "$1/progressdb"
  program=$1/progressdb derive dev next --env NEXT_VERSION=next
  for version in "${next_versions[@]:1}"; do derive next "$version" --env NEXT_VERSION="$version"; done
  local credentials=(--env AWS_ACCESS_KEY_ID=any --env AWS_SECRET_ACCESS_KEY=any)
  derive dev dev-storing "${credentials[@]}"
  derive next-plain next-storing "${credentials[@]}"
}

# derive FROM TO CONFIGURATION...: an image of another one; its program is $program if that is set
derive() {
  local container
  container=$(buildah from --pull-never "localhost/progressdb:$1")
  [ -z "${program:-}" ] || buildah copy --quiet --chmod 0755 "$container" "$program" /usr/local/bin/progressdb >/dev/null
  buildah config "${@:3}" "$container"
  buildah commit --quiet --rm "$container" "localhost/progressdb:$2" >/dev/null
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

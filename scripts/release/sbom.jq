# $crates: those of scripts/release/crates; $packages: "name version architecture" a line, of Debian's in an image.

# The libraries in other languages that crates bring along, by the version that the crate names after a plus sign.
def bundled:
  {
    "librocksdb-sys": "rocksdb", "lz4-sys": "lz4", "tikv-jemalloc-sys": "jemalloc", "zstd-sys": "zstd", "libz-sys": "zlib",
  }[.name] as $library
  | if $library and (.version | contains("+")) then
      (.version | split("+")[1] | sub("^[a-z0-9]+[.-](?=[0-9]+[.][0-9]+[.][0-9])"; "") | sub("-.*$"; "")) as $at
      | [{ type: "library", name: $library, version: $at, "bom-ref": "\(.purl)#\($library)", purl: "pkg:generic/\($library)@\($at)" }]
    else [] end;

def component:
  { type: "library", name, version, "bom-ref": .purl, purl }
  + (if .license then { licenses: [{ expression: (.license | gsub("/"; " OR ")) }] } else {} end)
  + (if .checksum then { hashes: [{ alg: "SHA-256", content: .checksum }] } else {} end)
  + (bundled | if . == [] then {} else { components: . } end);

def of_debian:
  split(" ") as [$name, $at, $for]
  | "pkg:deb/\($distribution | split("-")[0])/\($name)@\($at | @uri)?arch=\($for)&distro=\($distribution)" as $purl
  | { type: "library", name: $name, version: $at, "bom-ref": $purl, purl: $purl };

(if $digest == "" then "pkg:generic/\($name)@\($version)?arch=\($architecture)"
 else "pkg:oci/\($name)@\($digest | @uri)?arch=\($architecture)&repository_url=ghcr.io/progressdb/\($name)&tag=\($version)" end) as $self
| ($packages | split("\n") | map(select(. != "") | of_debian)) as $debian
| $crates[0] as $crates
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
      timestamp: $time,
      component: {
        type: (if $digest == "" then "application" else "container" end),
        name: $name,
        version: $version,
        "bom-ref": $self,
        purl: $self,
        licenses: [{ license: { id: "Apache-2.0" } }],
        externalReferences: [{ type: "vcs", url: $repository, comment: "commit \($commit)" }],
      },
    },
    components: (($crates | map(component)) + $debian),
    dependencies: (
      [{ ref: $self, dependsOn: (($crates | map(select(.ours).purl)) + ($debian | map(.purl)) | unique) }]
      + ($crates | map({ ref: .purl, dependsOn: .needs }))
    ),
  }

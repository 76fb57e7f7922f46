# $subjects: lines of sha256sum; $crates: "name version checksum" a line, of the lock file.

def lines: split("\n") | map(select(. != ""));

{
  _type: "https://in-toto.io/Statement/v1",
  subject: ($subjects | lines | map({ name: .[66:], digest: { sha256: .[:64] } })),
  predicateType: "https://slsa.dev/provenance/v1",
  predicate: {
    buildDefinition: {
      buildType: "\($repository)/blob/main/docs/CONTRIBUTING.md#releasing",
      externalParameters: { source: "git+\($repository)@\($commit)", version: $version, command: "make release" },
      internalParameters: {
        toolchain: { rustc: $rustc, cargo: $cargo, cc: $cc, cc_arm64: $cross, clang: $clang, libc: $libc, system: $system },
      },
      resolvedDependencies: (
        [{ uri: "git+\($repository)@\($commit)", digest: { gitCommit: ($commit | rtrimstr("-dirty")) } }]
        + ($crates | lines | map(split(" ") | {
            uri: "pkg:cargo/\(.[0])@\(.[1] | gsub("\\+"; "%2B"))",
            digest: { sha256: .[2] },
          }))
      ),
    },
    runDetails: {
      builder: { id: $builder },
      metadata: (if $run == "" then {} else { invocationId: $run } end),
    },
  },
}

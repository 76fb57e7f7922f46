# $tree: "name version" a line, of the crates in the program; $checksums: the same and a checksum, of the lock file;
# $metadata: what cargo says of every package.

def lines: split("\n") | map(select(. != ""));
def purl: "pkg:cargo/\(.name)@\(.version | gsub("\\+"; "%2B"))";

($tree | lines | INDEX(.)) as $shipped
| ($checksums | lines | map(split(" ") | { key: "\(.[0]) \(.[1])", value: .[2] }) | from_entries) as $sums
| ($metadata[0].packages | map(select($shipped["\(.name) \(.version)"]))) as $packages
| ($packages | map({ key: .id, value: purl }) | from_entries) as $purls
| ($metadata[0].resolve.nodes | INDEX(.id)) as $nodes
| if ($packages | length) != ($shipped | length) then error("cargo tree and cargo metadata differ") else . end
| $packages
| map({
    name,
    version,
    purl: purl,
    license,
    manifest: .manifest_path,
    ours: (.source == null),
    checksum: $sums["\(.name) \(.version)"],
    needs: [
      $nodes[.id].deps[] | select(any(.dep_kinds[]; .kind == null)) | $purls[.pkg] // empty
    ] | unique,
  })
| sort_by(.name, .version)

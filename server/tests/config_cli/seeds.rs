//! The commands that the documentation of the earlier server shows, as it shows them, in a directory of their own.
//!
//! They name port 8080, which may be taken: they run in a network of their own, which takes root.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use testing::{Finished, Setup, finish, skip};

/// What is around the commands: `expect NAME TEXT COMMAND` compares what a command prints, without white space.
const AROUND: &str = r#"
set -eu
ip link set lo up
expect() {
  found=$(printf %s "$3" | tr -d '[:space:]')
  case $found in *"$2"*) echo "ok: $1" ;; *) echo "failed: $1: $3"; cat err; exit 1 ;; esac
}
# In the background, and until it answers: the documentation takes another terminal and a moment.
start() {
  sh -c "exec $1" >out 2>err &
  server=$!
  for _ in $(seq 600); do
    curl -s http://localhost:8080/healthz >/dev/null && [ -s out ] && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "failed: $1"; cat out err; exit 1
}
stop() { kill "$server"; wait "$server"; }
key() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" data/dev-keys.json; }
"#;

/// Starting, looking, writing, upgrading the binary, rolling it back, and restoring a copy.
const COMMANDS: &str = r#"
# A quick smoke test.
start './progressdb --db ./data --addr :8080'
expect healthz '{"status":"ok"}' "$(curl -s http://localhost:8080/healthz)"
expect keys 600 "$(stat -c %a data/dev-keys.json)"
expect warning 'WARN' "$(grep 'open beyond this machine in plain HTTP' err)"
expect welcome 'openbeyondthismachine' "$(cat out)"
expect 'the printed curl line' '"key":"t:' "$(sh -c "$(grep 'curl ' out)")"
expect 'every interface' '{"status":"ok"}' "$(curl -s http://10.5.0.1:8080/healthz)"
# Verify a release: /healthz, /readyz, metrics, sign a user, create a thread, post a message, list messages.
expect readyz '"status":"ok"' "$(curl -s http://localhost:8080/readyz)"
expect metrics 'progressdb_http_requests_total' "$(curl -s http://localhost:8080/metrics -H "Authorization: Bearer $(key admin)")"
api=http://localhost:8080 auth="Authorization: Bearer $(key backend)"
expect sign '"signature":"' "$(curl -s $api/backend/v1/sign -H "$auth" -d '{"userId":"ann"}')"
thread=$(curl -s $api/frontend/v1/threads -H "$auth" -H 'X-User-ID: ann' -d '{"title":"smoke"}' | sed 's/.*"key":"\([^"]*\)".*/\1/')
expect post '"key":"t:' "$(curl -s $api/frontend/v1/threads/$thread/messages -H "$auth" -H 'X-User-ID: ann' -d '{"body":"kept"}')"
kept() { curl -s $api/frontend/v1/threads/$thread/messages -H "$auth" -H 'X-User-ID: ann'; }
expect list '"body":"kept"' "$(kept)"
stop
# A binary upgrade: keep the old one, put the new one in its place.
mv progressdb progressdb.old
cp -P progressdb.old progressdb
start './progressdb --db ./data --addr :8080'
expect upgraded '"body":"kept"' "$(kept)"
stop
# A rollback.
mv progressdb.old progressdb
start './progressdb --db ./data --addr :8080'
expect 'rolled back' '"body":"kept"' "$(kept)"
stop
# Backup and restore of a stopped server: `rsync -a` where there is one, and what every machine has.
if command -v rsync >/dev/null; then rsync -a ./data/ backup; else cp -a ./data backup; fi
rm -r data
cp -a backup data
start './progressdb --db ./data --addr :8080'
expect healthz '{"status":"ok"}' "$(curl -s http://localhost:8080/healthz)"
expect restored '"body":"kept"' "$(kept)"
stop
echo all of it
"#;

#[test]
fn every_command_of_the_earlier_documentation_works_as_written() {
    let name = "every_command_of_the_earlier_documentation_works_as_written";
    if !rustix::process::geteuid().is_root() {
        return skip(name, "not root, so port 8080 may be somebody else's");
    }
    for program in ["unshare", "ip", "curl"] {
        if Command::new(program).arg("--version").output().is_err() && Command::new(program).arg("-V").output().is_err()
        {
            return skip(name, &format!("{program} is not installed"));
        }
    }
    if finish(alone("true", &Setup::new())).code != Some(0) {
        return skip(name, "no network of its own can be made here");
    }
    let setup = Setup::new();
    symlink(env!("CARGO_BIN_EXE_progressdb"), setup.root().join("progressdb")).unwrap();
    let script = format!("{AROUND}\nip address add 10.5.0.1/32 dev lo\n{COMMANDS}");
    let finished: Finished = finish(alone(&script, &setup));
    finished.check_code(0).check_says(&["all of it"]);
    assert!(!fs::exists(setup.root().join("progressdb.old")).unwrap());
}

/// In a network and among processes of its own, which all end with it.
fn alone(script: &str, setup: &Setup) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]).current_dir(setup.root());
    command.env_clear().env("PATH", testing::variable("PATH").unwrap_or_default());
    command
}
